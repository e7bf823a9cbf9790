/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/slab.h"
#include "lib/fault.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct item {
    uint64_t value;
    char text[23];
};

struct entry {
    uint64_t id, value;
    struct item *at;
};

static int by_index(const void *a, const void *b) {
    uint64_t x = ((const struct entry *)a)->id & 0xffffff, y = ((const struct entry *)b)->id & 0xffffff;
    return (x > y) - (x < y);
}

/* The walk must meet exactly the n entries, in order of index. */
static void check_walk(const struct slab *s, struct entry *entries, size_t n) {
    uint32_t cursor = 0;
    uint64_t id;
    struct item *item;
    size_t i = 0;
    if (n) qsort(entries, n, sizeof *entries, by_index);
    for (; (item = slab_next(s, &cursor, &id)); i++) {
        assert_true(i < n);
        assert_int_equal(id, entries[i].id);
        assert_ptr_equal(item, entries[i].at);
        assert_int_equal(item->value, entries[i].value);
    }
    assert_int_equal(i, n);
    assert_null(slab_next(s, &cursor, &id));
}

/* Random news and frees against a plain array. The size swings between 0 and a few thousand. */
static void model(void **state) {
    (void)state;
    enum { MOST = 4000 };
    static struct entry live[MOST];
    static uint64_t dead[1024];
    size_t n = 0, deaths = 0;
    long blocks = fault_live();
    struct slab s;
    struct random r;
    random_seed(&r, 3);
    slab_init(&s, sizeof(struct item));
    for (unsigned step = 0; step < 300000; step++) {
        bool growing = step / 10000 % 2 == 0;
        if (n < MOST && random_below(&r, 100) < (growing ? 70 : 30)) {
            struct entry *e = &live[n++];
            static const struct item zero;
            e->at = slab_new(&s, &e->id);
            assert_non_null(e->at);
            assert_int_not_equal(e->id, 0);
            assert_memory_equal(e->at, &zero, sizeof zero);
            assert_int_equal((uintptr_t)e->at % _Alignof(max_align_t), 0);
            e->at->value = e->value = step;
            memset(e->at->text, 0x55, sizeof e->at->text);
        } else if (n) {
            struct entry *e = &live[random_below(&r, n)];
            assert_ptr_equal(slab_get(&s, e->id), e->at);
            assert_int_equal(e->at->value, e->value);
            slab_free(&s, e->id);
            slab_free(&s, e->id); /* once more: names none */
            dead[deaths++ % 1024] = e->id;
            *e = live[--n];
        }
        assert_int_equal(s.count, n);
        uint64_t id = dead[random_below(&r, 1024)];
        assert_null(slab_get(&s, id));
        if (step % 5000 == 0 || n == 0) check_walk(&s, live, n);
    }
    while (n) slab_free(&s, live[--n].id);
    check_walk(&s, live, 0);
    /* nothing is left but the table and the spare */
    assert_true(fault_live() - blocks <= 2);
    slab_fini(&s);
    assert_int_equal(fault_live(), blocks);
}

static void junk_ids(void **state) {
    (void)state;
    struct slab s;
    struct random r;
    uint64_t id;
    slab_init(&s, 8);
    assert_null(slab_get(&s, 0));
    assert_null(slab_get(&s, 1));
    void *item = slab_new(&s, &id);
    assert_non_null(item);
    for (int bit = 0; bit < 64; bit++) {
        assert_null(slab_get(&s, id ^ UINT64_C(1) << bit));
        slab_free(&s, id ^ UINT64_C(1) << bit);
    }
    for (uint64_t index = 0; index < 1 << 24; index += 7) assert_null(slab_get(&s, index));
    random_seed(&r, 4);
    for (int i = 0; i < 1000; i++) assert_null(slab_get(&s, random_u64(&r)));
    assert_ptr_equal(slab_get(&s, id), item);
    assert_int_equal(s.count, 1);
    slab_fini(&s);
}

static void memory_order_and_zeroed(void **state) {
    (void)state;
    struct slab s;
    uint64_t id;
    slab_init(&s, 40);
    for (int round = 0; round < 2; round++) {
        char *before = NULL;
        uint64_t first = 0;
        for (uint64_t i = 0; i < SLAB_CHUNK_ITEMS; i++) {
            char *p = slab_new(&s, &id);
            if (i == 0) first = id & 0xffffff;
            assert_int_equal(id & 0xffffff, first + i);
            if (before) assert_int_equal(p - before, 64);
            before = p;
            for (int k = 0; k < 40; k++) assert_int_equal(p[k], 0);
            memset(p, 1, 40);
        }
        uint32_t cursor = 0;
        while (slab_next(&s, &cursor, &id)) slab_free(&s, id); /* freeing while walking */
        assert_int_equal(s.count, 0);
    }
    slab_fini(&s);
}

/* Empty chunks go but for one, so that a count that swings around a chunk's edge allocates nothing. */
static void spare_chunk(void **state) {
    (void)state;
    enum { CHUNKS = 40, N = CHUNKS * SLAB_CHUNK_ITEMS };
    static uint64_t ids[N + 1];
    struct slab s;
    slab_init(&s, 100);
    for (size_t i = 0; i < N; i++) assert_non_null(slab_new(&s, &ids[i]));
    long blocks = fault_live(), count = fault_count();
    assert_non_null(slab_new(&s, &ids[N]));
    assert_int_equal(fault_live(), blocks + 1);
    for (int i = 0; i < 100; i++) {
        slab_free(&s, ids[N]);
        assert_non_null(slab_new(&s, &ids[N]));
    }
    assert_int_equal(fault_count(), count + 1);
    slab_free(&s, ids[N]);
    for (size_t i = 0; i < N; i += 2) slab_free(&s, ids[i]); /* no chunk becomes empty */
    assert_int_equal(fault_live(), blocks + 1);
    for (size_t i = 1; i < N; i += 2) slab_free(&s, ids[i]);
    assert_int_equal(fault_live(), blocks - CHUNKS + 1);
    /* places given back are used again */
    size_t slots = s.chunk_slots;
    for (size_t i = 0; i < N; i++) assert_non_null(slab_new(&s, &ids[i]));
    assert_int_equal(s.chunk_slots, slots);
    slab_fini(&s);
}

/* All 16,777,215 items, no more; then again after one was freed. */
static void full(void **state) {
    (void)state;
    struct slab s;
    uint64_t id = 0, last;
    slab_init(&s, 0); /* the ids alone: 256 MiB */
    for (uint32_t i = 0; i < (1 << 24) - 1; i++)
        if (!slab_new(&s, &id)) fail();
    last = id;
    assert_null(slab_new(&s, &id));
    assert_int_equal(id, last);
    assert_non_null(slab_get(&s, last));
    slab_free(&s, last);
    assert_non_null(slab_new(&s, &id));
    assert_int_not_equal(id, last);
    assert_null(slab_get(&s, last));
    slab_fini(&s);
}

static void serials_wrap(void **state) {
    (void)state;
    struct slab s;
    uint64_t id;
    slab_init(&s, 8);
    s.serial = (UINT64_C(1) << 40) - 2;
    assert_non_null(slab_new(&s, &id));
    assert_int_equal(id >> 24, (UINT64_C(1) << 40) - 1);
    assert_non_null(slab_get(&s, id));
    assert_non_null(slab_new(&s, &id));
    assert_int_equal(id >> 24, 1);
    assert_non_null(slab_get(&s, id));
    slab_fini(&s);
}

static void out_of_memory(void **state) {
    (void)state;
    struct slab s;
    long blocks = fault_live();
    uint64_t id = 77, first;
    slab_init(&s, 16);
    for (long n = 1; n <= 2; n++) { /* the table, the chunk */
        fault_fail_at(n);
        assert_null(slab_new(&s, &id));
        assert_int_equal(id, 77);
        assert_int_equal(s.count, 0);
    }
    assert_non_null(slab_new(&s, &first));
    unsigned failed = 0;
    for (unsigned i = 1; i < 20 * SLAB_CHUNK_ITEMS; i++) {
        fault_fail_at(1);
        if (!slab_new(&s, &id)) {
            failed++;
            assert_non_null(slab_new(&s, &id));
        }
        assert_int_equal(s.count, i + 1);
    }
    assert_int_equal(failed, 19);
    fault_fail_at(0);
    assert_non_null(slab_get(&s, first));
    slab_fini(&s);
    assert_int_equal(fault_live(), blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model),
        cmocka_unit_test(junk_ids),
        cmocka_unit_test(memory_order_and_zeroed),
        cmocka_unit_test(spare_chunk),
        cmocka_unit_test(full),
        cmocka_unit_test(serials_wrap),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests_name("base/slab", tests, NULL, NULL);
}
