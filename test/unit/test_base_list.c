/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct list link;
};

/* The values in order, as the digits of a number; checks the way back too. */
static int digits_of(struct list *head) {
    int n = 0;
    const struct list *before = head;
    LIST_FOR (node, head) {
        n = n * 10 + CONTAINER_OF(node, struct item, link)->value;
        assert_ptr_equal(node->prev, before);
        before = node;
    }
    assert_ptr_equal(head->prev, before);
    return n;
}

static void order(void **state) {
    (void)state;
    struct list head;
    struct item items[5];
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 5; i++) items[i].value = i + 1;
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[2].link);
    list_push_front(&head, &items[0].link);
    list_insert_before(&items[2].link, &items[4].link);
    assert_int_equal(digits_of(&head), 1253);
    list_del(&items[4].link);
    assert_true(list_empty(&items[4].link));
    list_del(&items[4].link); /* in no list: harmless */
    assert_int_equal(digits_of(&head), 123);
    assert_ptr_equal(list_pop_front(&head), &items[0].link);
    assert_true(list_empty(&items[0].link));
    assert_int_equal(digits_of(&head), 23);
}

static void deleting_while_walking(void **state) {
    (void)state;
    struct list head;
    struct item items[9];
    list_init(&head);
    for (int i = 0; i < 9; i++) {
        items[i].value = i + 1;
        list_push_back(&head, &items[i].link);
    }
    LIST_FOR (node, &head) {
        if (CONTAINER_OF(node, struct item, link)->value % 2) list_del(node);
    }
    assert_int_equal(digits_of(&head), 2468);
}

static void splicing(void **state) {
    (void)state;
    struct list a, b;
    struct item items[4];
    list_init(&a);
    list_init(&b);
    for (int i = 0; i < 4; i++) {
        items[i].value = i + 1;
        list_push_back(i < 2 ? &a : &b, &items[i].link);
    }
    list_splice_back(&a, &b);
    assert_int_equal(digits_of(&a), 1234);
    assert_true(list_empty(&b));
    list_splice_back(&a, &b);
    assert_int_equal(digits_of(&a), 1234);
    list_splice_back(&b, &a);
    assert_int_equal(digits_of(&b), 1234);
    assert_true(list_empty(&a));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(deleting_while_walking),
        cmocka_unit_test(splicing),
    };
    return cmocka_run_group_tests_name("base/list", tests, NULL, NULL);
}
