/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/random.h"
#include "lib/fault.h"
#include "weir/weir.h"

enum { ITEMS = 500 };

struct item {
    uint64_t key;
    size_t place;
};

static bool before(const void *a, const void *b) {
    return ((const struct item *)a)->key < ((const struct item *)b)->key;
}

static size_t *place(void *item) {
    return &((struct item *)item)->place;
}

static void test_empty(void **state) {
    (void)state;
    struct heap h;
    heap_init(&h, before, place);
    assert_null(heap_first(&h));
    struct item out = {1, HEAP_NOWHERE};
    heap_remove(&h, &out);
    assert_int_equal(h.count, 0);
    heap_fini(&h);
}

/* Random additions, changes and removals anywhere: the first is always the smallest that is in. */
static void test_random(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, 4);
    struct heap h;
    heap_init(&h, before, place);
    static struct item items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i].place = HEAP_NOWHERE;
    for (int step = 0; step < 20000; step++) {
        struct item *item = &items[random_below(&random, ITEMS)];
        if (item->place == HEAP_NOWHERE) {
            item->key = random_below(&random, 100);
            assert_int_equal(step % 2 ? heap_add(&h, item) : heap_update(&h, item), 0);
        } else if (random_below(&random, 2)) {
            item->key = random_below(&random, 100);
            assert_int_equal(heap_update(&h, item), 0);
        } else {
            heap_remove(&h, item);
            assert_true(item->place == HEAP_NOWHERE);
        }
        uint64_t smallest = UINT64_MAX;
        size_t in = 0;
        for (int i = 0; i < ITEMS; i++) {
            if (items[i].place == HEAP_NOWHERE) continue;
            in++;
            if (items[i].key < smallest) smallest = items[i].key;
        }
        assert_int_equal(h.count, in);
        if (in) assert_int_equal(((struct item *)heap_first(&h))->key, smallest);
    }
    heap_fini(&h);
}

static void test_without_memory(void **state) {
    (void)state;
    struct heap h;
    heap_init(&h, before, place);
    struct item item = {1, HEAP_NOWHERE};
    fault_fail_at(1);
    assert_int_equal(heap_add(&h, &item), WEIR_ENOMEM);
    fault_fail_at(0);
    assert_true(item.place == HEAP_NOWHERE);
    assert_int_equal(heap_add(&h, &item), 0);
    assert_ptr_equal(heap_first(&h), &item);
    heap_fini(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
