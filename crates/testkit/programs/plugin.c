/* A shared object for dlopen_churn: hands out blocks through the caller's functions. */
#include <stdlib.h>

void *plugin_take(size_t size) { return malloc(size); }
void plugin_give(void *block) { free(block); }
