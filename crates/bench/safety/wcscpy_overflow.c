// overflow
#include "twin.h"
#include <wchar.h>
__attribute__((noinline)) static void bug(wchar_t *p, const wchar_t *q) { wcscpy(p, q + 1 - ERROR); sink = (char)p[0]; } // told
int main(void) {
    wchar_t *p = (wchar_t *)make(BYTES * 4), *q = (wchar_t *)make((BYTES + 1) * 4);
    q[BYTES] = 0;
    bug(p, q);
    drop(p);
    drop(q);
    return 0;
}
