/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/wheel.h"
#include <stdlib.h>

/* The model: what is pending, with the time that counts and a serial number of adding. */
enum { TIMERS = 200 };
struct entry {
    struct wheel_timer timer;
    uint64_t when, serial; /* serial 0: not pending */
};
struct world {
    struct wheel wheel;
    struct random random;
    struct entry entries[TIMERS];
    uint64_t serial, now; /* now: the largest that the wheel was told */
    size_t pending;
};

static struct entry *first(struct world *w) {
    struct entry *best = NULL;
    for (struct entry *e = w->entries; e < w->entries + TIMERS; e++) {
        if (!e->serial) continue;
        if (!best || e->when < best->when || (e->when == best->when && e->serial < best->serial)) best = e;
    }
    return best;
}

/* All sizes alike: a number of 0..bits-1 bits. */
static uint64_t any_size(struct random *r, unsigned bits) {
    return random_u64(r) >> (63 - random_below(r, bits));
}

static uint64_t any_when(struct world *w) {
    struct random *r = &w->random;
    switch (random_below(r, 8)) {
    case 0: { /* in the past */
        uint64_t back = any_size(r, 20);
        return back > w->now ? 0 : w->now - back;
    }
    case 1:
        return w->now;
    case 2: { /* just around an edge of some level */
        unsigned shift = (unsigned)random_below(r, 48);
        return (((w->now >> shift) + 1) << shift) + random_below(r, 3) - 1;
    }
    case 3:
        return w->now + any_size(r, 44);
    case 4: { /* the time of another one */
        const struct entry *e = &w->entries[random_below(r, TIMERS)];
        return e->serial ? e->when : w->now + 5;
    }
    default:
        return w->now + any_size(r, 22);
    }
}

static void check(struct world *w) {
    const struct wheel *wheel = &w->wheel;
    size_t lists = 0;
    for (int l = 0; l < WHEEL_LEVELS; l++)
        for (int s = 0; s < WHEEL_SLOTS; s++) {
            bool taken = !list_empty(&wheel->slots[l][s]);
            lists += taken;
            assert_int_equal(wheel->occupied[l] >> s & 1, taken);
        }
    assert_true(lists <= w->pending);
    assert_int_equal(wheel->count, w->pending);
    const struct entry *e = first(w);
    uint64_t next = wheel_next(wheel);
    if (!e) {
        assert_int_equal(next, UINT64_MAX);
    } else {
        assert_true(next <= e->when);
        assert_true(next > wheel->now || e->when <= wheel->now);
    }
}

static void add(struct world *w, struct entry *e, uint64_t when) {
    w->pending += e->serial == 0;
    wheel_add(&w->wheel, &e->timer, when);
    e->when = when > w->wheel.now ? when : w->wheel.now;
    e->serial = ++w->serial;
    assert_true(wheel_pending(&e->timer));
    assert_int_equal(e->timer.when, when);
}

/* Expires up to now, against the model; a few times stops before the end, or adds on the way. */
static void expire(struct world *w, uint64_t now) {
    if (now > w->now) w->now = now;
    for (;;) {
        struct entry *e = first(w);
        uint64_t before = w->wheel.now, last = now > before ? now : before;
        struct wheel_timer *t = wheel_expire(&w->wheel, now);
        if (!e || e->when > last) {
            assert_null(t);
            assert_int_equal(w->wheel.now, last);
            w->now = last;
            return;
        }
        assert_ptr_equal(t, &e->timer);
        assert_false(wheel_pending(t));
        e->serial = 0;
        w->pending--;
        if (random_below(&w->random, 20) == 0) add(w, e, any_when(w));
        if (random_below(&w->random, 100) == 0) return;
    }
}

static void run_model(uint64_t seed, uint64_t start) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    random_seed(&w->random, seed);
    w->now = start;
    wheel_init(&w->wheel, start);
    for (struct entry *e = w->entries; e < w->entries + TIMERS; e++) wheel_timer_init(&e->timer);
    for (int step = 0; step < 8000; step++) {
        struct entry *e = &w->entries[random_below(&w->random, TIMERS)];
        switch (random_below(&w->random, 8)) {
        case 0:
        case 1:
        case 2:
        case 3:
            add(w, e, any_when(w));
            break;
        case 4:
            wheel_del(&w->wheel, &e->timer);
            w->pending -= e->serial != 0;
            e->serial = 0;
            assert_false(wheel_pending(&e->timer));
            break;
        case 5:
            expire(w, w->now + any_size(&w->random, random_below(&w->random, 10) ? 16 : 42));
            break;
        case 6:
            expire(w, wheel_next(&w->wheel) == UINT64_MAX ? w->now : wheel_next(&w->wheel));
            break;
        default:
            expire(w, w->now - (w->now ? random_below(&w->random, 2) : 0));
            break;
        }
        if (step % 8 == 0) check(w);
    }
    assert_true(w->serial > 4000);
    free(w);
}

static void model(void **state) {
    (void)state;
    static const uint64_t starts[] = {
        0, 1, 63, 1000, (UINT64_C(1) << 36) - 5, UINT64_C(1767225600000), (UINT64_C(1) << 50) - 1};
    for (uint64_t seed = 0; seed < 28; seed++) run_model(seed, starts[seed % 7]);
}

/* Sleeping until wheel_next each time must get there soon, at the very millisecond. */
static void sleeping(void **state) {
    (void)state;
    struct random r;
    random_seed(&r, 9);
    for (int i = 0; i < 2000; i++) {
        struct wheel w;
        struct wheel_timer t;
        uint64_t now = any_size(&r, 60), when = now + 1 + any_size(&r, 36);
        wheel_init(&w, now);
        wheel_timer_init(&t);
        wheel_add(&w, &t, when);
        int naps = 0;
        while (!wheel_expire(&w, now)) {
            assert_true(wheel_next(&w) > now);
            now = wheel_next(&w);
            assert_true(++naps <= WHEEL_LEVELS + 1);
        }
        assert_int_equal(now, when);
        assert_int_equal(w.count, 0);
    }
}

/* Would take for ever if it went millisecond by millisecond, or turn by turn of the wheel. */
static void far_away(void **state) {
    (void)state;
    static const uint64_t whens[] = {3600000,    86400000,   UINT64_C(1) << 36, (UINT64_C(1) << 36) + 1,
                                     1ull << 40, 1ull << 62, UINT64_MAX - 1,    UINT64_MAX,
                                     UINT64_MAX};
    enum { N = sizeof whens / sizeof *whens };
    struct wheel w;
    struct wheel_timer t[N];
    wheel_init(&w, 5);
    for (int i = 0; i < N; i++) {
        wheel_timer_init(&t[i]);
        wheel_add(&w, &t[i], whens[i]);
    }
    for (int i = 0; i < N; i++) {
        if (i < N - 1) assert_null(wheel_expire(&w, whens[i] - 1));
        assert_ptr_equal(wheel_expire(&w, whens[i]), &t[i]);
    }
    assert_null(wheel_expire(&w, UINT64_MAX));
    assert_int_equal(wheel_next(&w), UINT64_MAX);
    /* and all in one jump */
    wheel_init(&w, 0);
    for (int i = N; i-- > 0;) wheel_add(&w, &t[i], whens[i]);
    for (int i = 0; i < N - 2; i++) assert_ptr_equal(wheel_expire(&w, UINT64_MAX), &t[i]);
    assert_ptr_equal(wheel_expire(&w, UINT64_MAX), &t[N - 1]); /* was added before its twin */
    assert_ptr_equal(wheel_expire(&w, UINT64_MAX), &t[N - 2]);
    assert_null(wheel_expire(&w, UINT64_MAX));
}

static void many(void **state) {
    (void)state;
    enum { N = 1000000 };
    struct wheel_timer *t = malloc(N * sizeof *t);
    assert_non_null(t);
    struct wheel w;
    struct random r;
    random_seed(&r, 5);
    wheel_init(&w, 1000);
    for (size_t i = 0; i < N; i++) {
        wheel_timer_init(&t[i]);
        wheel_add(&w, &t[i], 1001 + random_below(&r, 600000));
    }
    for (size_t i = 0; i < N; i += 3) wheel_del(&w, &t[i]);
    assert_int_equal(w.count, N - (N + 2) / 3);
    uint64_t now = 1000;
    const struct wheel_timer *before = NULL, *e;
    while (w.count) {
        now += random_below(&r, 50);
        while ((e = wheel_expire(&w, now))) {
            if (e->when > now) fail();
            if (before && (before->when > e->when || (before->when == e->when && before > e))) fail();
            before = e;
        }
        if (before && w.count && wheel_next(&w) <= now) fail();
    }
    free(t);
}

static void clock_that_goes_back(void **state) {
    (void)state;
    struct wheel w;
    struct wheel_timer t;
    wheel_init(&w, 100);
    wheel_timer_init(&t);
    wheel_del(&w, &t);
    assert_int_equal(w.count, 0);
    assert_null(wheel_expire(&w, 200));
    assert_null(wheel_expire(&w, 150));
    assert_int_equal(w.now, 200);
    wheel_add(&w, &t, 180); /* has passed */
    assert_ptr_equal(wheel_expire(&w, 150), &t);
    wheel_add(&w, &t, 300);
    wheel_add(&w, &t, 250); /* moves it */
    assert_int_equal(w.count, 1);
    assert_ptr_equal(wheel_expire(&w, 250), &t);
    assert_null(wheel_expire(&w, 400));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model),
        cmocka_unit_test(sleeping),
        cmocka_unit_test(far_away),
        cmocka_unit_test(many),
        cmocka_unit_test(clock_that_goes_back),
    };
    return cmocka_run_group_tests_name("base/wheel", tests, NULL, NULL);
}
