// Shape of z3 at work: a clause-learning search. Clauses are blocks of 16 to 200 bytes, learnt
// and forgotten in waves; watch lists grow by realloc; the walk of clauses dominates.
#include "workload.h"

typedef struct {
    int count, is_learnt;
    int literal[];
} clause_t;
typedef struct {
    clause_t **at;
    int count, room;
} list_t;

enum { VARIABLES = 30000, CLAUSES = 120000, LITERALS = 2 * VARIABLES };

static list_t watch[LITERALS], all;
static signed char value[VARIABLES];
static int trail[VARIABLES], trail_count, level_start[VARIABLES + 1], levels;
static rng_t rng;
static uint64_t steps;

static void append(list_t *list, clause_t *clause) {
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 4;
        list->at = checked(realloc(list->at, (size_t)list->room * sizeof *list->at));
    }
    list->at[list->count++] = clause;
}
static int truth(int literal) {
    int v = value[literal >> 1];
    return literal & 1 ? -v : v;
}
static void set_true(int literal) {
    value[literal >> 1] = literal & 1 ? -1 : 1;
    trail[trail_count++] = literal;
}
static clause_t *clause_new(const int *literal, int count, int is_learnt) {
    clause_t *c = checked(malloc(sizeof *c + (size_t)count * sizeof(int)));
    c->count = count;
    c->is_learnt = is_learnt;
    memcpy(c->literal, literal, (size_t)count * sizeof(int));
    append(&all, c);
    append(&watch[c->literal[0]], c);
    append(&watch[c->literal[1]], c);
    return c;
}
// Sets what follows; a clause with no literal left, or NULL.
static clause_t *propagate(int from) {
    for (int head = from; head < trail_count; head++) {
        int false_literal = trail[head] ^ 1;
        list_t *list = &watch[false_literal];
        int kept = 0;
        for (int i = 0; i < list->count; i++) {
            clause_t *c = list->at[i];
            steps++;
            if (c->literal[0] == false_literal) {
                c->literal[0] = c->literal[1];
                c->literal[1] = false_literal;
            }
            if (truth(c->literal[0]) > 0) {
                list->at[kept++] = c;
                continue;
            }
            int k = 2;
            while (k < c->count && truth(c->literal[k]) < 0) k++;
            if (k < c->count) {
                c->literal[1] = c->literal[k];
                c->literal[k] = false_literal;
                append(&watch[c->literal[1]], c);
                continue;
            }
            list->at[kept++] = c;
            if (truth(c->literal[0]) < 0) {
                for (i++; i < list->count; i++) list->at[kept++] = list->at[i];
                list->count = kept;
                return c;
            }
            set_true(c->literal[0]);
        }
        list->count = kept;
    }
    return NULL;
}
static void back_to(int level) {
    while (trail_count > level_start[level]) value[trail[--trail_count] >> 1] = 0;
    levels = level;
}
// Forgets half of what was learnt.
static void forget(void) {
    for (int l = 0; l < LITERALS; l++) {
        int kept = 0;
        for (int i = 0; i < watch[l].count; i++) {
            clause_t *c = watch[l].at[i];
            if (!c->is_learnt || c->is_learnt & 1) watch[l].at[kept++] = c;
        }
        watch[l].count = kept;
    }
    int kept = 0;
    for (int i = 0; i < all.count; i++) {
        clause_t *c = all.at[i];
        if (c->is_learnt && !(c->is_learnt & 1))
            free(c);
        else
            all.at[kept++] = c;
    }
    all.count = kept;
}

int main(int argc, char **argv) {
    long conflicts_max = work_units(argc, argv) * 400, conflicts = 0;
    rng = rng_seeded(21);
    for (int i = 0; i < CLAUSES; i++) {
        int literal[3];
        for (int k = 0; k < 3; k++)
            literal[k] = (int)(((uint32_t)(i / 4) % VARIABLES * (k == 0) +
                                (k ? rng_below(&rng, VARIABLES) : 0)) * 2 + (rng_next(&rng) & 1));
        clause_new(literal, 3, 0);
    }
    long learnt = 0;
    while (conflicts < conflicts_max) {
        int from = trail_count;
        if (trail_count == VARIABLES) {
            back_to(0);
            continue;
        }
        int variable = (int)rng_below(&rng, VARIABLES);
        while (value[variable]) variable = (variable + 1) % VARIABLES;
        level_start[levels++] = trail_count;
        set_true(variable * 2 + (int)(rng_next(&rng) & 1));
        clause_t *conflict = propagate(from);
        if (!conflict) continue;
        conflicts++;
        // What is learnt: not these decisions together (a part of them, as an analysis gives).
        int *literal = checked(malloc(sizeof(int) * (size_t)(levels + 2)));
        int count = 0;
        for (int l = levels - 1; l >= 0 && count < 40; l--)
            if (l >= levels - 2 || rng_below(&rng, 4) == 0) literal[count++] = trail[level_start[l]] ^ 1;
        if (count < 2) literal[count++] = literal[0] ^ 2;
        back_to(levels > 12 ? levels - 1 - (int)rng_below(&rng, 12) : 0);
        clause_new(literal, count, (int)++learnt);
        free(literal);
        if (conflicts % 5000 == 0) {
            back_to(0);
            forget();
        }
    }
    for (int i = 0; i < all.count; i++) free(all.at[i]);
    for (int l = 0; l < LITERALS; l++) free(watch[l].at);
    free(all.at);
    printf("%llu\n", (unsigned long long)steps);
    return 0;
}
