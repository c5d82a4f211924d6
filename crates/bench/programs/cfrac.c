// Shape of cfrac: big integers of a few words, each result a new block, most dead at once.
// Continued fraction of sqrt(N), with trial division of each residue by a factor base.
#include "workload.h"

typedef struct {
    int refs, count;
    uint16_t digit[];
} num_t;

static num_t *num_new(int count) {
    num_t *n = checked(malloc(sizeof(num_t) + (size_t)count * 2));
    n->refs = 1;
    n->count = count;
    return n;
}
static void drop(num_t *n) {
    if (--n->refs == 0) free(n);
}
static num_t *trimmed(num_t *n) {
    while (n->count > 1 && n->digit[n->count - 1] == 0) n->count--;
    return n;
}
static num_t *from_u32(uint32_t v) {
    num_t *n = num_new(2);
    n->digit[0] = (uint16_t)v;
    n->digit[1] = (uint16_t)(v >> 16);
    return trimmed(n);
}
static int compare(const num_t *a, const num_t *b) {
    if (a->count != b->count) return a->count - b->count;
    for (int i = a->count - 1; i >= 0; i--)
        if (a->digit[i] != b->digit[i]) return a->digit[i] - b->digit[i];
    return 0;
}
static num_t *add(const num_t *a, const num_t *b) {
    int count = (a->count > b->count ? a->count : b->count) + 1;
    num_t *r = num_new(count);
    uint32_t carry = 0;
    for (int i = 0; i < count; i++) {
        carry += (i < a->count ? a->digit[i] : 0) + (i < b->count ? b->digit[i] : 0);
        r->digit[i] = (uint16_t)carry;
        carry >>= 16;
    }
    return trimmed(r);
}
static num_t *sub(const num_t *a, const num_t *b) {
    num_t *r = num_new(a->count);
    int32_t borrow = 0;
    for (int i = 0; i < a->count; i++) {
        int32_t d = a->digit[i] - (i < b->count ? b->digit[i] : 0) + borrow;
        r->digit[i] = (uint16_t)d;
        borrow = d >> 16;
    }
    return trimmed(r);
}
static num_t *mul(const num_t *a, const num_t *b) {
    num_t *r = num_new(a->count + b->count);
    memset(r->digit, 0, (size_t)r->count * 2);
    for (int i = 0; i < a->count; i++) {
        uint32_t carry = 0;
        for (int j = 0; j < b->count || carry; j++) {
            carry += r->digit[i + j] + (j < b->count ? (uint32_t)a->digit[i] * b->digit[j] : 0);
            r->digit[i + j] = (uint16_t)carry;
            carry >>= 16;
        }
    }
    return trimmed(r);
}
static num_t *div_small(const num_t *a, uint32_t by, uint32_t *rest) {
    num_t *r = num_new(a->count);
    uint32_t left = 0;
    for (int i = a->count - 1; i >= 0; i--) {
        left = (left << 16) | a->digit[i];
        r->digit[i] = (uint16_t)(left / by);
        left %= by;
    }
    *rest = left;
    return trimmed(r);
}

int main(int argc, char **argv) {
    long rounds = work_units(argc, argv) * 160;
    static const uint32_t primes[] = {2,  3,  5,  7,  11, 13, 17, 19, 23, 29,
                                      31, 37, 41, 43, 47, 53, 59, 61, 67, 71};
    uint64_t sum = 0;
    num_t *p = from_u32(3), *q = from_u32(7), *n = from_u32(0xfffffffb);
    for (int i = 0; i < 3; i++) {
        num_t *next = mul(n, n);
        drop(n);
        n = next;
        if (n->count > 8) n->count = 8;
    }
    for (long round = 0; round < rounds; round++) {
        num_t *square = mul(p, p), *term = mul(q, n), *next = add(square, term);
        drop(square);
        drop(term);
        while (next->count > 7) {
            uint32_t rest;
            num_t *less = div_small(next, 65521, &rest);
            drop(next);
            next = less;
            sum += rest;
        }
        num_t *residue = next;
        residue->refs++;
        for (unsigned i = 0; i < sizeof primes / sizeof *primes; i++)
            for (;;) {
                uint32_t rest;
                num_t *quotient = div_small(residue, primes[i], &rest);
                if (rest || quotient->count < 2) {
                    drop(quotient);
                    break;
                }
                drop(residue);
                residue = quotient;
            }
        num_t *gap = compare(next, residue) >= 0 ? sub(next, residue) : sub(residue, next);
        sum += gap->digit[0] + (unsigned)residue->count;
        drop(residue);
        drop(p);
        p = q;
        q = next;
        num_t *one = from_u32((uint32_t)round | 1), *odd = add(gap, one);
        drop(one);
        drop(gap);
        drop(p);
        p = odd;
    }
    drop(p);
    drop(q);
    drop(n);
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
