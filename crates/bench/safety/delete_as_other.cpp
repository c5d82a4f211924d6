// wrong-size-free
#include "twin.h"
struct Base { char bytes[BYTES]; };
struct Derived : Base { char more[16]; };
__attribute__((noinline)) static void bug(Derived *p) { if (ERROR) delete (Base *)p; else delete p; sink = 2; } // told
int main() { bug(new Derived); return 0; } // made
