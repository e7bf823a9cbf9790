/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of topics: its limits, a random run, and all of it out of memory. */
#include "base/random.h"
#include "lib/fault.h"
#include "topics_world.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

static void limits(void **state) {
    (void)state;
    struct call c[1001];
    char name[TEXT];
    for (int i = 0; i < 1001; i++) {
        snprintf(name, sizeof name, "s%d", i);
        begin_subscribe(&c[i], "T", name);
    }
    settle();
    for (int i = 0; i < 1000; i++) assert_int_equal(c[i].err, 0);
    assert_int_equal(c[1000].err, WEIR_ENOSPACE);
    assert_int_equal(subscribe("T", "s7"), 0);
    assert_int_equal(unsubscribe("T", "s8"), 0);
    assert_int_equal(subscribe("T", "s1000"), 0);
    assert_int_equal(publish_large("T", (1 << 20) + 1), WEIR_ETOOBIG);
}

static void not_too_many_are_out(void **state) {
    (void)state;
    enum { MOST = 10000 };
    struct reader s;
    subscribe("T", "a");
    begin_stream(&s, "a", true);
    for (int i = 0; i < MOST + 5; i++) publish("T", "m");
    assert_int_equal(s.count, MOST);
    assert_int_equal(ack("a", 17), 0);
    assert_int_equal(s.count, MOST + 1);
    topics_reader_leave(&s.r);
    assert_int_equal(unsubscribe("T", "a"), 0);
}

static void not_too_much_is_kept_in_memory(void **state) {
    (void)state;
    enum { COUNT = 1100, SIZE = 64 * 1024 };
    struct reader *r = calloc(COUNT, sizeof *r);
    subscribe("T", "a");
    for (int i = 0; i < COUNT; i++) publish_large("T", SIZE);
    for (int i = 0; i < COUNT; i++) begin_poll(&r[i], "a", 1000);
    quiet.acks_wait = true;
    while (stats().out < COUNT) store_turn(store);
    for (int i = 0; i < COUNT; i++) topics_reader_leave(&r[i].r);
    quiet.acks_wait = false;
    settle();
    assert_int_equal(stats().again + stats().undelivered, COUNT);
    assert_true(stats().again * SIZE <= 64 << 20);
    assert_true(stats().again > 1000);
    assert_int_equal(kept(), 0);
    free(r);
}

/* ---- at random ---- */

enum { NAMES = 3, READERS = 12, MESSAGES = 2000, SEEDS = 10 };

struct fate { /* of a message, for one subscription */
    bool wanted, given, acked;
};
struct game {
    struct random random;
    struct fate fates[NAMES][MESSAGES + 1];
    struct reader readers[READERS];
    int mode[READERS]; /* 0: none; 1: poll; 2: lease */
    int at[READERS];
    struct call calls[16];
    uint64_t published;
};
static const char *const names[NAMES] = {"a", "b", "c"};

/* Takes note of what a reader was given: an unleased message only once. */
static void look(struct game *g, int i) {
    struct reader *r = &g->readers[i];
    if (!g->mode[i] || r->err == PENDING) return;
    if (r->count == 1) {
        unsigned number;
        assert_int_equal(sscanf(r->text, "%u", &number), 1);
        struct fate *f = &g->fates[g->at[i]][number];
        assert_true(f->wanted);
        assert_false(f->acked);
        f->given = true;
        if (g->mode[i] == 1) f->acked = true;
        if (g->mode[i] == 2 && random_below(&g->random, 2)) {
            assert_int_equal(ack(names[g->at[i]], r->id), 0);
            f->acked = true;
        }
    }
    g->mode[i] = 0;
}

static void play(struct game *g) {
    int i = (int)random_below(&g->random, READERS);
    switch (random_below(&g->random, 8)) {
    case 0:
    case 1: {
        char text[TEXT];
        int n = snprintf(text, sizeof text, "%u", (unsigned)++g->published);
        struct call c;
        begin_publish(&c, "T", text, (size_t)n);
        while (c.err == PENDING) store_turn(store);
        assert_int_equal(c.err, 0);
        for (int s = 0; s < NAMES; s++) g->fates[s][g->published].wanted = true;
        break;
    }
    case 2:
    case 3:
        if (g->mode[i]) break;
        g->mode[i] = 1 + (int)random_below(&g->random, 2);
        g->at[i] = (int)random_below(&g->random, NAMES);
        reader_init(&g->readers[i], names[g->at[i]]);
        g->readers[i].r.acknowledges = g->mode[i] == 2;
        g->readers[i].r.wait_ms = random_below(&g->random, 2) * random_below(&g->random, 500);
        topics_read(topics, &g->readers[i].r);
        break;
    case 4:
        look(g, i);
        if (!g->mode[i]) break;
        topics_reader_leave(&g->readers[i].r);
        g->mode[i] = 0;
        break;
    case 5:
        now += random_below(&g->random, 300);
        topics_tick(topics, now);
        break;
    default:
        store_turn(store);
    }
    for (int r = 0; r < READERS; r++) look(g, r);
}

/* What was taken without a reader to hear of it is not lost: it comes to the next. */
static void at_random(void **state) {
    (void)state;
    static struct game g;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        if (seed > 1) setup(NULL);
        memset(&g, 0, sizeof g);
        random_seed(&g.random, seed);
        for (int s = 0; s < NAMES; s++) subscribe("T", names[s]);
        for (int step = 0; step < 4000 && g.published < MESSAGES; step++) play(&g);
        settle();
        for (int i = 0; i < READERS; i++) {
            look(&g, i);
            if (g.mode[i]) topics_reader_leave(&g.readers[i].r);
        }
        pass(10 * LEASE_MS);
        for (int s = 0; s < NAMES; s++) {
            for (const char *text; *(text = read_text(names[s]));) {
                struct fate *f = &g.fates[s][atoi(text)];
                assert_true(f->wanted && !f->acked);
                f->acked = true;
            }
            for (uint64_t m = 1; m <= g.published; m++) assert_true(g.fates[s][m].acked);
        }
        assert_int_equal(kept(), 0);
        assert_int_equal(stats().out, 0);
        if (seed < SEEDS) teardown(NULL);
    }
}

/* ---- out of memory ---- */

/* 0 or WEIR_ENOMEM; whatever fails, the engine goes on, and no message that was published is lost. */
static int story(void) {
    struct call c[6];
    struct reader r[4];
    int err = open_engine();
    if (err != 0) return err;
    for (size_t i = 0; i < 6; i++) c[i].err = 0;
    while (quiet.count > 0) store_turn(store);
    now += 1000; /* a load that has failed is tried again */
    settle();
    begin_subscribe(&c[0], "T", "a");
    settle();
    begin_publish(&c[1], "T", "m1", 2);
    settle();
    begin_publish(&c[2], "T", "m2", 2);
    settle();
    begin_poll(&r[0], "a", 100);
    begin_lease(&r[1], "a", 0);
    settle();
    begin_stream(&r[2], "a", false);
    begin_publish(&c[3], "T", "m3", 2);
    settle();
    pass(200);
    if (r[2].err == PENDING) topics_reader_leave(&r[2].r);
    settle();
    fault_fail_at(0);
    unsigned published = 0;
    for (int i = 1; i < 4; i++) published += c[i].err == 0;
    for (int i = 0; i < 4; i++)
        if (c[i].err != 0) err = c[i].err;
    for (int i = 0; i < 3; i++)
        if (r[i].err != PENDING && r[i].err != 0) err = r[i].err;
    if (c[0].err == 0) {
        unsigned taken = r[0].count + r[2].count;
        pass(10 * LEASE_MS);
        while (*read_text("a")) taken++;
        assert_true(taken >= published);
        assert_int_equal(kept(), 0);
        assert_int_equal(unsubscribe("T", "a"), 0);
    }
    assert_int_equal(stats().out, 0);
    assert_int_equal(stats().subscriptions, 0);
    return err;
}

static void out_of_memory(void **state) {
    (void)state;
    teardown(NULL);
    int err = WEIR_ENOMEM;
    long n = 1;
    bool any = true;
    for (; any && n < 1000; n++) {
        long live = fault_live();
        open_store();
        fault_reset();
        fault_fail_at(n);
        err = story();
        any = fault_count() >= n;
        fault_fail_at(0);
        store_close(&store);
        topics_free(&topics);
        assert_int_equal(fault_live(), live);
        assert_true(err == 0 || err == WEIR_ENOMEM || err == WEIR_ENOTFOUND);
    }
    assert_int_equal(err, 0);
    assert_true(n > 30);
    setup(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(limits),    STORY(not_too_many_are_out), STORY(not_too_much_is_kept_in_memory),
        STORY(at_random), STORY(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
