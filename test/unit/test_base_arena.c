/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/asan.h"
#include "base/random.h"
#include "lib/fault.h"

/* Blocks of all sizes, filled; none may overlap, be misaligned, or be lost before the end. */
static void blocks(void **state) {
    (void)state;
    enum { N = 3000 };
    static struct {
        unsigned char *p;
        size_t n;
    } block[N];
    _Alignas(max_align_t) char room[1000];
    long live = fault_live();
    struct random r;
    random_seed(&r, 1);
    for (int with_room = 0; with_room < 2; with_room++) {
        struct arena a;
        size_t used = 0;
        arena_init(&a, 0, with_room ? room + 3 : NULL, with_room ? sizeof room - 3 : 0);
        for (size_t i = 0; i < N; i++) {
            bool aligned = random_below(&r, 2);
            size_t n = random_below(&r, 50) == 0 ? random_below(&r, 100000) : random_below(&r, 100);
            void *p = aligned ? arena_alloc(&a, n) : arena_bytes(&a, n);
            assert_non_null(p);
            if (aligned) assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
            block[i].p = p;
            block[i].n = n;
            memset(p, (int)(i & 0xff), n);
            used += n;
            assert_int_equal(a.used, used);
        }
        for (size_t i = 0; i < N; i++)
            for (size_t k = 0; k < block[i].n; k++) assert_int_equal(block[i].p[k], i & 0xff);
        arena_fini(&a);
        assert_int_equal(fault_live(), live);
    }
}

#if !BASE_ASAN /* where each allocation is a malloc of its own */
static void own_room_first(void **state) {
    (void)state;
    _Alignas(max_align_t) char room[256];
    struct arena a;
    arena_init(&a, 0, room, sizeof room);
    long count = fault_count();
    assert_ptr_equal(arena_bytes(&a, 1), room);
    assert_ptr_equal(arena_alloc(&a, 200), room + 16);
    assert_ptr_equal(arena_bytes(&a, 40), room + 216);
    assert_int_equal(fault_count(), count);
    assert_non_null(arena_bytes(&a, 1));
    assert_int_equal(fault_count(), count + 1);
    /* a large block has a chunk to itself: small ones go on in the chunk before */
    char *small = arena_bytes(&a, 8);
    assert_non_null(arena_bytes(&a, 50000));
    assert_ptr_equal(arena_bytes(&a, 8), small + 8);
    arena_fini(&a);
    /* less room than alignment skips */
    arena_init(&a, 0, room, 20);
    assert_ptr_equal(arena_bytes(&a, 18), room);
    count = fault_count();
    assert_non_null(arena_alloc(&a, 1));
    assert_int_equal(fault_count(), count + 1);
    arena_fini(&a);
}

static void few_mallocs(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    long count = fault_count();
    for (int i = 0; i < 100000; i++) assert_non_null(arena_alloc(&a, 32));
    assert_true(fault_count() - count < 100);
    arena_fini(&a);
}
#endif

static void limit(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1001, NULL, 0);
    assert_null(arena_alloc(&a, 1002));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_non_null(arena_alloc(&a, 1000));
    assert_null(arena_alloc(&a, 2));
    assert_int_equal(a.used, 1000);
    assert_non_null(arena_bytes(&a, 1));
    assert_null(arena_bytes(&a, 1));
    assert_non_null(arena_alloc(&a, 0));
    assert_null(arena_copy(&a, SLICE("")).p); /* has no room for its NUL */
    arena_fini(&a);

    arena_init(&a, 0, NULL, 0);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, PTRDIFF_MAX));
    assert_non_null(arena_alloc(&a, 0));
    arena_fini(&a);
}

static void copying(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0, NULL, 0);
    char text[] = "hello";
    struct slice copy = arena_copy(&a, slice_of(text));
    text[0] = 'j';
    assert_int_equal(copy.n, 5);
    assert_string_equal(copy.p, "hello");
    copy = arena_copy(&a, (struct slice){0});
    assert_int_equal(copy.n, 0);
    assert_string_equal(copy.p, "");
    arena_fini(&a);
}

static void out_of_memory(void **state) {
    (void)state;
    struct arena a;
    long live = fault_live();
    arena_init(&a, 0, NULL, 0);
    fault_fail_at(1);
    assert_null(arena_alloc(&a, 10));
    assert_int_equal(a.used, 0);
    char *p = arena_bytes(&a, 10);
    assert_non_null(p);
    memset(p, 'x', 10);
    fault_fail_at(1);
    assert_null(arena_copy(&a, (struct slice){memset((char[9000]){0}, 'y', 9000), 9000}).p);
    assert_int_equal(a.used, 10);
    assert_memory_equal(p, "xxxxxxxxxx", 10);
    assert_non_null(arena_alloc(&a, 9000));
    arena_fini(&a);
    assert_int_equal(fault_live(), live);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if !BASE_ASAN
        cmocka_unit_test(own_room_first),
        cmocka_unit_test(few_mallocs),
#endif
        cmocka_unit_test(blocks),
        cmocka_unit_test(limit),
        cmocka_unit_test(copying),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
