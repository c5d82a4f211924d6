// use-after-free
#include "twin.h"
#include <string>
__attribute__((noinline)) static void bug(const char *p) { sink = p[0]; } // told
int main() {
    std::string *text = new std::string(BYTES + 32, (char)65); // made
    const char *p = text->c_str();
    if (!ERROR) bug(p);
    delete text; // freed
    if (ERROR) bug(p);
    return 0;
}
