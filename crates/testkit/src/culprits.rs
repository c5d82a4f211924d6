//! C programs in which one call site holds far more memory than it uses: what fragmentation blame
//! is judged by.
//!
//! Each allocates a burst of requests in which the culprit leaves a small block now and then, and
//! a dense table of an innocent site that holds more live bytes than the culprit. Then the
//! requests are freed. At its end the program works out, from the addresses of all its live
//! blocks, what the culprit pins by the definition of `docs/design/fragmentation.md`, and prints
//! it as `culprit_site pins BYTES`.

use crate::random::Random;

/// A program's source and the name of the function at the culprit's call site.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// C source, to be compiled with `-pthread -fno-builtin`.
    pub source: String,
    /// The function to be blamed.
    pub function: &'static str,
}

impl Culprit {
    /// The program of `seed`: 1 to 3 threads, random sizes and shares.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let threads = 1 + random.below(3);
        let request_bytes = 64 + 16 * random.below(40);
        let requests = (30 << 20) / (request_bytes * threads);
        let every = 8 + random.below(40);
        let kept_bytes = 24 + 8 * random.below(16);
        let source = SOURCE
            .replace("@THREADS@", &threads.to_string())
            .replace("@REQUESTS@", &requests.to_string())
            .replace("@REQUEST_BYTES@", &request_bytes.to_string())
            .replace("@EVERY@", &every.to_string())
            .replace("@KEPT_BYTES@", &kept_bytes.to_string());
        Self { source, function: "culprit_site" }
    }

    /// Reads what the program printed about its culprit.
    pub fn pinned_bytes(output: &str) -> Option<u64> {
        output.lines().find_map(|line| line.strip_prefix("culprit_site pins "))?.parse().ok()
    }
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define THREADS @THREADS@
#define REQUESTS @REQUESTS@
#define EVERY @EVERY@
#define KEPT (REQUESTS / EVERY + 1)
#define TABLE 8000
#define PAGE 4096ul
#define SITE __attribute__((noinline)) static char *
static char *fill(char *block, size_t size) { memset(block, 1, size); return block; }
SITE request_site(size_t size) { return fill(malloc(size), size); }
SITE culprit_site(size_t size) { return fill(malloc(size), size); }
SITE table_site(size_t size) { return fill(malloc(size), size); }

static char *requests[THREADS][REQUESTS], *kept[THREADS][KEPT], *table[TABLE];

static void *work(void *argument) {
    long me = (long)argument, count = 0;
    unsigned state = 77 + me;
    for (long i = 0; i < REQUESTS; i++) {
        state = state * 1103515245 + 12345;
        requests[me][i] = request_site(@REQUEST_BYTES@ / 2 + (state >> 16) % @REQUEST_BYTES@);
        if (i % EVERY == 0) kept[me][count++] = culprit_site(@KEPT_BYTES@);
    }
    for (long i = 0; i < REQUESTS; i++) free(requests[me][i]);
    return 0;
}

struct part { uintptr_t page; unsigned bytes; int culprit; };
static struct part parts[2 * (THREADS * KEPT + TABLE) + 64];
static long count;

static void add(char *block, int culprit) {
    uintptr_t at = (uintptr_t)block, end = at + malloc_usable_size(block);
    while (at < end) {
        uintptr_t upto = (at / PAGE + 1) * PAGE;
        if (upto > end) upto = end;
        parts[count++] = (struct part){at / PAGE, upto - at, culprit};
        at = upto;
    }
}

static void sort(void) {
    for (long gap = count / 2; gap > 0; gap /= 2)
        for (long i = gap; i < count; i++) {
            struct part one = parts[i];
            long at = i;
            for (; at >= gap && parts[at - gap].page > one.page; at -= gap)
                parts[at] = parts[at - gap];
            parts[at] = one;
        }
}

int main(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < TABLE; i++) table[i] = table_site(240);
    for (long i = 1; i < THREADS; i++) pthread_create(&threads[i], 0, work, (void *)i);
    work(0);
    for (long i = 1; i < THREADS; i++) pthread_join(threads[i], 0);
    for (int i = 0; i < TABLE; i++) add(table[i], 0);
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < KEPT && kept[t][i]; i++) add(kept[t][i], 1);
    sort();
    double pinned = 0;
    for (long i = 0; i < count;) {
        uintptr_t page = parts[i].page;
        double all = 0, own = 0;
        for (; i < count && parts[i].page == page; i++) {
            all += parts[i].bytes;
            if (parts[i].culprit) own += parts[i].bytes;
        }
        pinned += (PAGE - all) * own / all;
    }
    dprintf(1, "culprit_site pins %.0f\n", pinned);
    return 0;
}
"#;
