// Shape of rocksdb's benchmark: keys and values go into a skip list whose nodes come from 4 KiB
// pieces and large blocks; a full list is written out by a second thread, which frees it; reads
// copy values into fresh strings through a cache of blocks.
#include "workload.h"

enum { LEVELS = 12, PIECE = 4096, VALUE = 100, FLUSH_AT = 60000, CACHE = 2048, BLOCK = 4096 };

typedef struct node {
    uint64_t key;
    unsigned char *value;
    struct node *next[];
} node_t;
typedef struct piece {
    struct piece *next;
    size_t used;
    unsigned char bytes[PIECE - 16];
} piece_t;
typedef struct {
    node_t *head;
    piece_t *pieces;
    int count;
} table_t;

static _Atomic uint64_t flushed;

static void *from_piece(table_t *t, size_t bytes) {
    bytes = (bytes + 7) & ~(size_t)7;
    if (!t->pieces || t->pieces->used + bytes > sizeof t->pieces->bytes) {
        piece_t *piece = checked(malloc(sizeof *piece));
        piece->next = t->pieces;
        piece->used = 0;
        t->pieces = piece;
    }
    void *at = t->pieces->bytes + t->pieces->used;
    t->pieces->used += bytes;
    return at;
}
static table_t *table_new(void) {
    table_t *t = checked(calloc(1, sizeof *t));
    t->head = from_piece(t, sizeof(node_t) + LEVELS * sizeof(node_t *));
    memset(t->head, 0, sizeof(node_t) + LEVELS * sizeof(node_t *));
    return t;
}
static node_t *seek(table_t *t, uint64_t key, node_t **before) {
    node_t *n = t->head;
    for (int level = LEVELS - 1; level >= 0; level--) {
        while (n->next[level] && n->next[level]->key < key) n = n->next[level];
        if (before) before[level] = n;
    }
    return n->next[0];
}
static void put(table_t *t, rng_t *rng, uint64_t key) {
    node_t *before[LEVELS];
    seek(t, key, before);
    int levels = 1;
    while (levels < LEVELS && (rng_next(rng) & 3) == 0) levels++;
    // The write batch: a string of its own that dies at once.
    unsigned char *batch = checked(malloc(VALUE + 40));
    memset(batch, (int)(key & 0xff), VALUE + 40);
    node_t *n = from_piece(t, sizeof *n + (size_t)levels * sizeof(node_t *));
    n->key = key;
    n->value = from_piece(t, VALUE);
    memcpy(n->value, batch, VALUE);
    free(batch);
    for (int level = 0; level < levels; level++) {
        n->next[level] = before[level]->next[level];
        before[level]->next[level] = n;
    }
    t->count++;
}
// Writes blocks of text and frees the table.
static void *flush(void *argument) {
    table_t *t = argument;
    unsigned char *block = checked(malloc(BLOCK * 2));
    size_t used = 0;
    uint64_t sum = 0;
    for (node_t *n = t->head->next[0]; n; n = n->next[0]) {
        memcpy(block + used, n->value, VALUE);
        used += VALUE;
        if (used < BLOCK) continue;
        for (size_t i = 0; i < used; i++) sum = sum * 31 + block[i];
        free(block);
        block = checked(malloc(BLOCK * 2));
        used = 0;
    }
    free(block);
    while (t->pieces) {
        piece_t *next = t->pieces->next;
        free(t->pieces);
        t->pieces = next;
    }
    free(t);
    flushed += sum != 1;
    return NULL;
}

int main(int argc, char **argv) {
    long operations = work_units(argc, argv) * 20000;
    rng_t rng = rng_seeded(33);
    table_t *t = table_new();
    static unsigned char *cache[CACHE];
    uint64_t found = 0;
    pthread_t flusher;
    int flushing = 0;
    for (long i = 0; i < operations; i++) {
        put(t, &rng, rng_next(&rng));
        if (t->count == FLUSH_AT) {
            if (flushing) pthread_join(flusher, NULL);
            flushing = pthread_create(&flusher, NULL, flush, t) == 0;
            t = table_new();
        }
        for (int k = 0; k < 2; k++) {
            uint64_t key = rng_next(&rng);
            node_t *n = seek(t, key, NULL);
            uint32_t at = (uint32_t)(key % CACHE);
            if (!cache[at] || rng_below(&rng, 4) == 0) {
                free(cache[at]);
                cache[at] = checked(malloc(BLOCK + rng_below(&rng, 300)));
                memset(cache[at], (int)at, BLOCK);
            }
            char *name = checked(malloc(24)), *copy = checked(malloc(VALUE + 1));
            memcpy(copy, n ? n->value : cache[at], VALUE);
            memcpy(name, &key, sizeof key);
            found += (uint64_t)(copy[3] == name[0]);
            free(name);
            free(copy);
        }
    }
    if (flushing) pthread_join(flusher, NULL);
    flush(t);
    for (int i = 0; i < CACHE; i++) free(cache[i]);
    printf("%llu\n", (unsigned long long)found);
    return 0;
}
