// Shape of espresso: covers of cubes (bit sets of 16 to 400 bytes) that are copied, intersected,
// sorted and thrown away; arrays of pointers that grow; few live bytes, many requests.
#include "workload.h"

typedef struct {
    int count, room;
    uint32_t **cube;
} cover_t;

static int words;

static cover_t *cover_new(int room) {
    cover_t *c = checked(malloc(sizeof *c));
    c->count = 0;
    c->room = room;
    c->cube = checked(malloc((size_t)room * sizeof *c->cube));
    return c;
}
static void cover_free(cover_t *c) {
    for (int i = 0; i < c->count; i++) free(c->cube[i]);
    free(c->cube);
    free(c);
}
static uint32_t *cube_new(void) { return checked(malloc((size_t)words * 4)); }
static void cover_add(cover_t *c, uint32_t *cube) {
    if (c->count == c->room)
        c->cube = checked(realloc(c->cube, (size_t)(c->room *= 2) * sizeof *c->cube));
    c->cube[c->count++] = cube;
}
static int weight(const uint32_t *cube) {
    int bits = 0;
    for (int i = 0; i < words; i++) bits += __builtin_popcount(cube[i]);
    return bits;
}
static int heavier(const void *a, const void *b) {
    return weight(*(uint32_t *const *)b) - weight(*(uint32_t *const *)a);
}
static int covers(const uint32_t *big, const uint32_t *small) {
    for (int i = 0; i < words; i++)
        if (small[i] & ~big[i]) return 0;
    return 1;
}
// Pairwise intersections that keep enough bits.
static cover_t *intersect(const cover_t *a, const cover_t *b) {
    cover_t *r = cover_new(10);
    for (int i = 0; i < a->count; i++)
        for (int j = 0; j < b->count; j++) {
            uint32_t *cube = cube_new();
            for (int k = 0; k < words; k++) cube[k] = a->cube[i][k] & b->cube[j][k];
            if (weight(cube) > words * 14)
                cover_add(r, cube);
            else
                free(cube);
        }
    return r;
}
// Without cubes that another one covers.
static cover_t *irredundant(cover_t *c) {
    qsort(c->cube, (size_t)c->count, sizeof *c->cube, heavier);
    cover_t *r = cover_new(8);
    for (int i = 0; i < c->count; i++) {
        int keep = r->count < 60;
        for (int j = 0; j < r->count && keep; j++) keep = !covers(r->cube[j], c->cube[i]);
        if (!keep) continue;
        uint32_t *copy = cube_new();
        memcpy(copy, c->cube[i], (size_t)words * 4);
        cover_add(r, copy);
    }
    cover_free(c);
    return r;
}

int main(int argc, char **argv) {
    long rounds = work_units(argc, argv) * 2;
    rng_t rng = rng_seeded(5);
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        words = 4 + (int)rng_below(&rng, 97) * (round % 3 == 0);
        cover_t *f = cover_new(16), *g = cover_new(16);
        for (int i = 0; i < 40; i++)
            for (int side = 0; side < 2; side++) {
                uint32_t *cube = cube_new();
                for (int k = 0; k < words; k++) cube[k] = rng_next(&rng) | rng_next(&rng);
                cover_add(side ? f : g, cube);
            }
        for (int step = 0; step < 6; step++) {
            cover_t *h = irredundant(intersect(f, g));
            sum += (unsigned)h->count;
            for (int i = 0; i < h->count; i++)
                for (int k = 0; k < words; k++) h->cube[i][k] |= rng_next(&rng) | rng_next(&rng);
            cover_free(g);
            g = f;
            f = h;
        }
        cover_free(f);
        cover_free(g);
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
