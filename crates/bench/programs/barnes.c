// Shape of barnes: an octree of bodies, built by malloc and walked by much arithmetic. Few
// requests; what counts is where the blocks lie.
#include "workload.h"
#include <math.h>

typedef struct node {
    double mass, at[3];
    int is_cell;
    struct node *child[8];
} cell_t;
typedef struct {
    double mass, at[3];
    int is_cell;
    double speed[3], force[3];
} body_t;

static cell_t *cell_new(void) {
    cell_t *c = checked(malloc(sizeof *c));
    memset(c, 0, sizeof *c);
    c->is_cell = 1;
    return c;
}
static int octant(const double *at, double *middle, double half) {
    int index = 0;
    for (int k = 0; k < 3; k++) {
        int high = at[k] >= middle[k];
        index |= high << k;
        middle[k] += high ? half / 2 : -half / 2;
    }
    return index;
}
static void insert(cell_t *cell, body_t *body, double *middle, double half, int depth) {
    int index = octant(body->at, middle, half);
    cell_t *old = cell->child[index];
    if (!old) {
        cell->child[index] = (cell_t *)body;
    } else if (old->is_cell) {
        insert(old, body, middle, half / 2, depth + 1);
    } else if (depth < 40) {
        cell_t *fresh = cell->child[index] = cell_new();
        double again[3] = {middle[0], middle[1], middle[2]};
        insert(fresh, (body_t *)old, again, half / 2, depth + 1);
        insert(fresh, body, middle, half / 2, depth + 1);
    }
}
static void weigh(cell_t *cell) {
    for (int i = 0; i < 8; i++) {
        cell_t *child = cell->child[i];
        if (!child) continue;
        if (child->is_cell) weigh(child);
        cell->mass += child->mass;
        for (int k = 0; k < 3; k++) cell->at[k] += child->mass * child->at[k];
    }
    for (int k = 0; k < 3; k++) cell->at[k] /= cell->mass;
}
static void pull(body_t *body, const cell_t *by, double size) {
    double away[3], square = 1e-4;
    for (int k = 0; k < 3; k++) {
        away[k] = by->at[k] - body->at[k];
        square += away[k] * away[k];
    }
    if (by->is_cell && size * size > square * 0.8) {
        for (int i = 0; i < 8; i++)
            if (by->child[i] && by->child[i] != (cell_t *)body) pull(body, by->child[i], size / 2);
        return;
    }
    double strength = by->mass / (square * sqrt(square));
    for (int k = 0; k < 3; k++) body->force[k] += strength * away[k];
}
static long free_cells(cell_t *cell) {
    long count = 1;
    for (int i = 0; i < 8; i++)
        if (cell->child[i] && cell->child[i]->is_cell) count += free_cells(cell->child[i]);
    free(cell);
    return count;
}

int main(int argc, char **argv) {
    enum { BODIES = 40000 };
    long steps = work_units(argc, argv);
    rng_t rng = rng_seeded(11);
    body_t **body = checked(malloc(BODIES * sizeof *body));
    for (int i = 0; i < BODIES; i++) {
        body[i] = checked(calloc(1, sizeof(body_t)));
        body[i]->mass = 1.0 / BODIES;
        for (int k = 0; k < 3; k++) body[i]->at[k] = rng_next(&rng) / 2147483648.0 - 1.0;
    }
    long cells = 0;
    for (long step = 0; step < steps; step++) {
        cell_t *root = cell_new();
        for (int i = 0; i < BODIES; i++) {
            double middle[3] = {0, 0, 0};
            insert(root, body[i], middle, 1.0, 0);
        }
        weigh(root);
        for (int i = (int)(step & 7); i < BODIES; i += 8) {
            memset(body[i]->force, 0, sizeof body[i]->force);
            pull(body[i], root, 2.0);
            for (int k = 0; k < 3; k++) body[i]->speed[k] += 1e-4 * body[i]->force[k];
        }
        cells += free_cells(root);
    }
    printf("%ld\n", cells);
    return 0;
}
