/* Loads and unloads the object named by argument 1 fifty times; blocks made inside it outlive
 * it and are freed by main. */
#include "counted.h"
#include <dlfcn.h>

int main(int argc, char **argv) {
    require(argc > 1, "name the plug-in");
    for (int round = 0; round < 50; round++) {
        void *object = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        require(object != NULL, "dlopen");
        void *(*plugin_take)(size_t) = (void *(*)(size_t))dlsym(object, "plugin_take");
        void (*plugin_give)(void *) = (void (*)(void *))dlsym(object, "plugin_give");
        require(plugin_take != NULL && plugin_give != NULL, "dlsym");
        void *blocks[20];
        for (int i = 0; i < 20; i++) {
            count_malloc++;
            blocks[i] = counted(plugin_take(SIZE(i)), SIZE(i));
        }
        for (int i = 0; i < 10; i++) {
            count_free++;
            plugin_give(blocks[i]);
        }
        require(dlclose(object) == 0, "dlclose");
        for (int i = 10; i < 20; i++) give(blocks[i]);
    }
    print_counts();
    return 0;
}
