/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of topics: streams. */
#include "lib/fault.h"
#include "topics_world.h"
#include "weir/weir.h"
#include <stdio.h>
#include <stdlib.h>

static void streams_acknowledge_what_has_arrived(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    publish("T", "m0");
    begin_stream(&s, "a", false);
    settle();
    assert_true(s.begun);
    s.arrived = 0;
    for (int i = 0; i < 9; i++) publish("T", "m");
    assert_int_equal(s.count, 10);
    pass(100);
    assert_int_equal(kept(), 10);
    s.arrived = 39; /* three, and most of the fourth */
    pass(100);
    assert_int_equal(kept(), 7);
    assert_int_equal(stats().acknowledged, 3);
    topics_reader_leave(&s.r);
    settle();
    assert_int_equal(stats().again, 7);
    begin_stream(&s, "a", false);
    settle();
    assert_int_equal(s.count, 7);
    assert_int_equal(s.delivery, 2);
    pass(100);
    assert_int_equal(kept(), 0);
    pass(14800);
    assert_int_equal(s.beats, 0);
    pass(100);
    assert_int_equal(s.beats, 1);
    pass(15000);
    assert_int_equal(s.beats, 2);
    topics_reader_leave(&s.r);
}

static void streams_take_what_they_have_room_for(void **state) {
    (void)state;
    struct reader s, poll;
    subscribe("T", "a");
    begin_stream(&s, "a", false);
    s.r.room = 0; /* from the next message on */
    publish("T", "m1");
    publish("T", "m2");
    assert_string_equal(s.text, "m1 ");
    begin_poll(&poll, "a", 0);
    settle();
    assert_string_equal(poll.text, "m2 ");
    publish_large("T", 70000);
    publish("T", "m3");
    s.r.room = 1000;
    topics_reader_ready(&s.r);
    settle();
    assert_int_equal(s.count, 2); /* it is busy with the large one */
    pass(100);
    assert_int_equal(kept(), 2); /* which has not arrived, whatever has */
    s.r.busy = false;
    topics_reader_ready(&s.r);
    settle();
    assert_int_equal(s.count, 3);
    pass(100);
    assert_int_equal(kept(), 0);
    topics_reader_leave(&s.r);
}

static void streams_share(void **state) {
    (void)state;
    struct reader s[2];
    subscribe("T", "a");
    for (int i = 0; i < 2; i++) begin_stream(&s[i], "a", false);
    for (int i = 0; i < 10; i++) publish("T", "m");
    assert_int_equal(s[0].count, 5);
    assert_int_equal(s[1].count, 5);
    s[0].arrived = 0; /* holds the first, so that the second's are acknowledged one by one */
    pass(100);
    assert_int_equal(kept(), 5);
    s[0].arrived = UINT32_MAX;
    topics_reader_leave(&s[0].r); /* what has arrived is acknowledged at the end, too */
    settle();
    assert_int_equal(kept(), 0);
    assert_int_equal(stats().out, 0);
    topics_reader_leave(&s[1].r);
}

static void a_stream_goes_on_behind_what_it_knows(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    for (int i = 0; i < 5; i++) publish("T", "old");
    publish("T", "new");
    reader_init(&s, "a");
    s.r.stream = true;
    s.r.room = 1000;
    s.r.beat_ms = 15000;
    s.r.after = 5;
    s.arrived = 0;
    topics_read(topics, &s.r);
    settle();
    assert_string_equal(s.text, "new ");
    pass(100);
    assert_int_equal(kept(), 1);
    topics_reader_leave(&s.r);
    settle();
    assert_string_equal(read_text("a"), "new ");
}

static void explicit_streams(void **state) {
    (void)state;
    struct reader s;
    subscribe("T", "a");
    begin_stream(&s, "a", true);
    publish("T", "m1");
    publish("T", "m2");
    pass(100);
    assert_string_equal(s.text, "m1 m2 ");
    assert_int_equal(kept(), 2);
    assert_int_equal(ack("a", 1), 0);
    pass(LEASE_MS);
    assert_string_equal(s.text, "m1 m2 m2 ");
    assert_int_equal(s.delivery, 2);
    topics_reader_leave(&s.r);
    assert_string_equal(read_text("a"), ""); /* the lease holds */
    pass(LEASE_MS);
    assert_string_equal(read_text("a"), "m2 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORY(streams_acknowledge_what_has_arrived),
        STORY(streams_take_what_they_have_room_for),
        STORY(streams_share),
        STORY(a_stream_goes_on_behind_what_it_knows),
        STORY(explicit_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
