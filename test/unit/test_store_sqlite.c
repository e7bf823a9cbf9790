/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is SQLite's own about the SQLite store: files, locks, restarts, group commit, room. That it does what
 * store.h says under random sequences of operations, the conformance suite checks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sqlite_world.h"
#include "store/sqlite_db.h"
#include "weir/weir.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the same in a file and in memory ---- */

static void test_life_of_a_job(void **state) {
    struct world w;
    struct call c;
    world_init(&w);
    if (*state) w.config.dir = NULL;
    world_open(&w);
    assert_int_equal(put(&w, 1, true), 0);
    assert_int_equal(put(&w, 1, true), WEIR_ECONFLICT);
    assert_int_equal(state_of(&w, 1), STORE_LEASED);
    assert_int_equal(finish(&w, 1, 2, STORE_DONE), WEIR_EFENCE);
    assert_int_equal(finish(&w, 1, 1, STORE_DONE), 0);
    assert_int_equal(finish(&w, 1, 1, STORE_DONE), WEIR_ESTATE);
    assert_int_equal(finish(&w, 2, 0, STORE_DONE), WEIR_ENOTFOUND);

    begin(&c, STORE_JOB_GET);
    c.op.job.id = id_of(1);
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.ret_job.state, STORE_DONE);
    assert_int_equal(c.op.ret_job.status, 200);
    assert_true(slice_eq(c.op.ret_job.answer.body.bytes, SLICE("answer")));
    assert_true(slice_eq(c.op.ret_job.service, SLICE("primes")));
    assert_int_equal(c.op.ret_job.message.head.n, 0);
    store_op_fini(&c.op);

    assert_int_equal(put(&w, 2, false), 0);
    assert_int_equal(put(&w, 3, false), 0);
    begin_lease(&c, 1);
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 1);
    assert_int_equal(c.op.jobs[0].fence, 1);
    assert_int_equal(store_id_compare(c.op.jobs[0].id, id_of(2)), 0);
    assert_true(slice_eq(c.op.jobs[0].message.body.bytes, SLICE("body")));
    store_op_fini(&c.op);
    begin(&c, STORE_JOB_RELEASE);
    c.op.job =
        (struct store_job){.id = id_of(2), .fence = 1, .attempt = 1, .run_at = 500, .reason = SLICE("r")};
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(lease(&w, 10), 1); /* 3 alone: 2 is not due */
    begin(&c, STORE_JOB_WAKE);
    c.op.now = 499;
    c.op.limit = 10;
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 0);
    assert_int_equal(c.op.next, 500);
    store_op_fini(&c.op);
    begin(&c, STORE_JOB_WAKE);
    c.op.now = 500;
    c.op.limit = 10;
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 1);
    assert_int_equal(c.op.lines[0].count, 1);
    assert_int_equal(c.op.next, 0);
    store_op_fini(&c.op);
    begin_lease(&c, 10);
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 1);
    assert_int_equal(c.op.jobs[0].fence, 2);
    assert_int_equal(c.op.jobs[0].run_at, 0);
    store_op_fini(&c.op);
    struct store_stats s = stats(&w);
    assert_int_equal(s.jobs[STORE_LEASED], 2);
    assert_int_equal(s.jobs[STORE_DONE], 1);
    assert_int_equal(s.jobs[STORE_QUEUED], 0);
    world_fini(&w);
}

static void test_topics(void **state) {
    struct world w;
    uint64_t position;
    world_init(&w);
    if (*state) w.config.dir = NULL;
    world_open(&w);
    assert_int_equal(append(&w, "t", "nobody"), 0);
    assert_int_equal(subscribe(&w, "t", "a"), 0);
    assert_int_equal(subscribe(&w, "t", "b"), 0);
    uint64_t ids[5];
    for (int i = 0; i < 5; i++) ids[i] = append(&w, "t", (const char *[]){"1", "2", "3", "4", "5"}[i]);
    for (int i = 1; i < 5; i++) assert_true(ids[i] > ids[i - 1]);
    check_unread(&w, "t", "a", "1,2,3,4,5");
    assert_int_equal(ack(&w, "t", "a", ids[1], false, &position), 0);
    assert_true(position < ids[0]);
    assert_int_equal(ack(&w, "t", "a", ids[1], false, &position), WEIR_ENOTFOUND);
    check_unread(&w, "t", "a", "1,3,4,5");
    assert_int_equal(ack(&w, "t", "b", ids[1], false, &position), 0);
    assert_int_equal(stats(&w).messages, 4); /* both have 2 */
    assert_int_equal(ack(&w, "t", "a", ids[0], false, &position), 0);
    assert_int_equal(position, ids[1]);
    assert_int_equal(ack(&w, "t", "a", ids[3], true, &position), 0);
    check_unread(&w, "t", "a", "5");
    check_unread(&w, "t", "b", "1,3,4,5");
    assert_int_equal(stats(&w).messages, 4);
    assert_int_equal(ack(&w, "t", "b", ids[2], false, &position), 0);
    assert_int_equal(stats(&w).messages, 3); /* 3 is beyond b's position, but behind a's */
    assert_int_equal(unsubscribe(&w, "t", "b"), 0);
    assert_int_equal(stats(&w).messages, 1);
    assert_int_equal(stats(&w).message_bytes, 1);
    check_unread(&w, "t", "a", "5");
    assert_int_equal(unsubscribe(&w, "t", "a"), 0);
    assert_int_equal(unsubscribe(&w, "t", "a"), WEIR_ENOTFOUND);
    assert_int_equal(stats(&w).messages, 0);
    assert_int_equal(stats(&w).topics, 0);
    assert_int_equal(subscribe(&w, "t", "a"), 0);
    assert_true(append(&w, "t", "6") > ids[4]);
    check_unread(&w, "t", "a", "6");
    world_fini(&w);
}

/* What is submitted at once about one thing takes effect in that order, whichever way it is read. */
static void test_order(void **state) {
    struct world w;
    struct call c[6];
    (void)state;
    world_init(&w);
    world_open(&w);
    begin(&c[0], STORE_JOB_GET);
    begin_put(&c[1], 1, true, "x");
    begin(&c[2], STORE_JOB_GET);
    begin_finish(&c[3], 1, 1, STORE_DONE);
    begin(&c[4], STORE_JOB_GET);
    begin(&c[5], STORE_JOB_LIST);
    c[5].op.states = ~0u;
    c[5].op.any_tenant = true;
    c[5].op.limit = 9;
    for (int i = 0; i < 6; i++) {
        if (c[i].op.kind == STORE_JOB_GET) c[i].op.job.id = id_of(1);
        store_submit(w.store, &c[i].op);
    }
    for (int i = 0; i < 6; i++) await(&w, &c[i]);
    assert_int_equal(c[0].op.err, WEIR_ENOTFOUND);
    assert_int_equal(c[2].op.ret_job.state, STORE_LEASED);
    assert_int_equal(c[4].op.ret_job.state, STORE_DONE);
    assert_int_equal(c[5].op.err, 0);
    assert_int_equal(c[5].op.count, 1);
    assert_int_equal(c[5].op.jobs[0].state, STORE_DONE);
    for (int i = 0; i < 6; i++) store_op_fini(&c[i].op);
    world_fini(&w);
}

/* ---- files ---- */

static void test_lock(void **state) {
    struct world w;
    struct store *second = NULL;
    char *text, want[128];
    (void)state;
    world_init(&w);
    world_open(&w);
    assert_int_equal(store_sqlite_open(&w.config, &second, &text), WEIR_ESTATE);
    snprintf(want, sizeof want, "%s is in use by the hub with pid %ld: ", w.dir, (long)getpid());
    assert_non_null(text);
    assert_int_equal(strncmp(text, want, strlen(want)), 0);
    assert_null(second);
    free(text);
    store_close(&w.store);
    world_open(&w);
    world_fini(&w);
}

static void test_restart(void **state) {
    struct world w;
    struct call c;
    uint64_t position;
    (void)state;
    world_init(&w);
    world_open(&w);
    for (uint64_t n = 1; n <= 5; n++) assert_int_equal(put(&w, n, n < 3), 0);
    assert_int_equal(finish(&w, 1, 1, STORE_DEAD), 0);
    assert_int_equal(subscribe(&w, "t", "a"), 0);
    uint64_t first = append(&w, "t", "1"), second = append(&w, "t", "2"), third = append(&w, "t", "3");
    assert_int_equal(ack(&w, "t", "a", second, false, &position), 0);
    struct store_stats before = stats(&w), after;
    store_close(&w.store);
    struct stat st;
    assert_int_equal(stat(file_in(&w, "weir.db-wal"), &st), -1);

    world_open(&w);
    after = stats(&w);
    assert_memory_equal(before.jobs, after.jobs, sizeof before.jobs);
    assert_int_equal(after.subscriptions, 1);
    assert_int_equal(after.topics, 1);
    assert_int_equal(after.messages, 2);
    assert_int_equal(after.message_bytes, 2);
    begin(&c, STORE_JOB_LOAD);
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 1);
    assert_int_equal(c.op.lines[0].count, 4); /* with the one that was leased */
    assert_int_equal(c.op.lines[0].priority, 4);
    assert_true(slice_eq(c.op.lines[0].tenant, SLICE("t")));
    store_op_fini(&c.op);
    assert_int_equal(stats(&w).jobs[STORE_QUEUED], 4);
    assert_int_equal(stats(&w).jobs[STORE_LEASED], 0);
    assert_int_equal(finish(&w, 2, 1, STORE_DONE), WEIR_EFENCE);
    assert_int_equal(state_of(&w, 1), STORE_DEAD);
    check_unread(&w, "t", "a", "1,3");
    assert_int_equal(ack(&w, "t", "a", first, false, &position), 0);
    assert_int_equal(position, second);
    assert_int_equal(unsubscribe(&w, "t", "a"), 0);
    store_close(&w.store);
    world_open(&w);
    assert_int_equal(subscribe(&w, "t", "b"), 0);
    assert_true(append(&w, "t", "4") > third); /* ids are never used again */
    world_fini(&w);
}

static void put_large(struct world *w, uint64_t n) {
    static char text[60000];
    struct call c;
    memset(text, 'x', sizeof text - 1);
    begin_put(&c, n, false, text);
    assert_int_equal(run(w, &c), 0);
    store_op_fini(&c.op);
}

/* Its file is laid out at the start, and then grows no more than it does while pages are copied. */
static void test_log_is_bounded(void **state) {
    struct world w;
    struct stat before, after;
    (void)state;
    world_init(&w);
    world_open(&w);
    assert_int_equal(stat(file_in(&w, "weir.db-wal"), &before), 0);
    assert_true(before.st_size > DB_LOG_PAGES * 4096);
    uint64_t n = 0;
    while (n * 60000 < 6 * (uint64_t)before.st_size) put_large(&w, ++n);
    assert_int_equal(stat(file_in(&w, "weir.db-wal"), &after), 0);
    assert_in_range(after.st_size, before.st_size, 2 * before.st_size);
    assert_int_equal(stats(&w).jobs[STORE_QUEUED], n);
    store_close(&w.store);
    world_open(&w);
    assert_int_equal(stats(&w).jobs[STORE_QUEUED], n);
    world_fini(&w);
}

/* Runs SQL on the database of a closed store. */
static void execute(const struct world *w, const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(file_in(w, "weir.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void check_refused(struct world *w, int want, const char *says) {
    char *text = NULL;
    assert_int_equal(try_open(w, &text), want);
    assert_null(w->store);
    assert_non_null(text);
    if (!strstr(text, says)) fail_msg("\"%s\" does not say \"%s\"", text, says);
    free(text);
}

static void test_newer_version(void **state) {
    struct world w;
    (void)state;
    world_init(&w);
    world_open(&w);
    store_close(&w.store);
    execute(&w, "PRAGMA user_version = 999");
    check_refused(&w, WEIR_ESTATE, "schema version 999");
    execute(&w, "PRAGMA user_version = 1");
    world_open(&w);
    world_fini(&w);
}

static void test_somebody_elses(void **state) {
    struct world w;
    (void)state;
    world_init(&w);
    execute(&w, "CREATE TABLE theirs (x)");
    check_refused(&w, WEIR_ECORRUPT, "not a weir store");
    execute(&w, "INSERT INTO theirs VALUES (1)");
    w.config.dir = "/proc/nowhere";
    check_refused(&w, WEIR_EIO, "/proc/nowhere");
    world_fini(&w);
}

static void test_damage(void **state) {
    struct world w;
    struct stat before, after;
    (void)state;
    world_init(&w);
    world_open(&w);
    for (uint64_t n = 1; n <= 500; n++) assert_int_equal(put(&w, n, false), 0);
    store_close(&w.store);
    damage(&w, 40 * 4096, 8192);
    assert_int_equal(stat(file_in(&w, "weir.db"), &before), 0);
    check_refused(&w, WEIR_ECORRUPT, "is damaged");
    damage(&w, 0, 4096);
    check_refused(&w, WEIR_ECORRUPT, "weir.db");
    assert_int_equal(stat(file_in(&w, "weir.db"), &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    world_fini(&w);
}

/* ---- group commit, and what operations cost ---- */

static void put_many(struct world *w, uint64_t from, size_t n) {
    struct call *c = calloc(n, sizeof *c);
    assert_non_null(c);
    for (size_t i = 0; i < n; i++) {
        begin_put(&c[i], from + i, false, "body");
        store_submit(w->store, &c[i].op);
    }
    for (size_t i = 0; i < n; i++) {
        await(w, &c[i]);
        assert_int_equal(c[i].op.err, 0);
        store_op_fini(&c[i].op);
    }
    free(c);
}

static void test_group_commit(void **state) {
    struct world w;
    (void)state;
    world_init(&w);
    world_open(&w);
    uint64_t before = stats(&w).commits;
    put_many(&w, 1, 1000);
    assert_in_range(stats(&w).commits - before, 1, 50);
    assert_int_equal(stats(&w).jobs[STORE_QUEUED], 1000);
    world_fini(&w);
}

/* Milliseconds that 50 leases of 20 jobs each take. */
static uint64_t time_leases(struct world *w) {
    uint64_t before = clock_mono_ms();
    for (int i = 0; i < 50; i++) assert_int_equal(lease(w, 20), 20);
    return clock_mono_ms() - before;
}

static void test_many_queued(void **state) {
    struct world w;
    struct call c;
    (void)state;
    world_init(&w);
    world_open(&w);
    put_many(&w, 1, 1000);
    uint64_t few = time_leases(&w);
    for (uint64_t i = 0; i < 20; i++) put_many(&w, 10000 + i * 5000, 5000);
    uint64_t many = time_leases(&w);
    if (many > 3 * few + 200)
        fail_msg("50 leases: %d ms of 1,000 jobs, %d ms of 100,000", (int)few, (int)many);
    store_close(&w.store);
    uint64_t before = clock_mono_ms();
    world_open(&w);
    begin(&c, STORE_JOB_LOAD);
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.lines[0].count, 101000);
    store_op_fini(&c.op);
    assert_in_range(clock_mono_ms() - before, 0, 5000);
    world_fini(&w);
}

/* ---- room ---- */

static void test_limit(void **state) {
    static char body[60000];
    struct world w;
    struct call c;
    uint64_t n = 1;
    int err;
    (void)state;
    memset(body, 'x', sizeof body - 1);
    world_init(&w);
    w.config.max_bytes = 4 << 20;
    world_open(&w);
    for (; n < 1000; n++) {
        begin_put(&c, n, true, body);
        err = run(&w, &c);
        if (err != 0) break;
    }
    assert_int_equal(err, WEIR_ENOSPACE);
    assert_in_range(n, 20, 70);
    assert_true(stats(&w).bytes <= 5 << 20);
    assert_int_equal(state_of(&w, n), WEIR_ENOTFOUND);
    uint64_t blob = 0;
    begin(&c, STORE_BLOB_NEW);
    err = run(&w, &c);
    blob = c.op.blob;
    begin(&c, STORE_BLOB_WRITE);
    c.op.blob = blob;
    c.op.bytes = (struct slice){body, sizeof body};
    if (err == 0) err = run(&w, &c);
    assert_int_equal(err, WEIR_ENOSPACE);
    for (uint64_t i = 1; i < n; i++) assert_int_equal(finish(&w, i, 1, STORE_DONE), 0);
    begin_put(&c, n, true, body);
    assert_int_equal(run(&w, &c), 0);
    world_fini(&w);
}

static void test_file_shrinks(void **state) {
    static char body[60000];
    struct world w;
    struct call c;
    struct stat full, empty;
    (void)state;
    memset(body, 'x', sizeof body - 1);
    world_init(&w);
    world_open(&w);
    for (uint64_t n = 1; n <= 200; n++) {
        begin_put(&c, n, true, body);
        assert_int_equal(run(&w, &c), 0);
    }
    store_close(&w.store);
    assert_int_equal(stat(file_in(&w, "weir.db"), &full), 0);
    assert_true(full.st_size > 10 << 20);
    world_open(&w);
    for (uint64_t n = 1; n <= 200; n++) assert_int_equal(finish(&w, n, 1, STORE_DONE), 0);
    for (int i = 0; i < 10; i++) {
        begin(&c, STORE_SWEEP);
        c.op.now = 9000;
        c.op.limit = 100;
        assert_int_equal(run(&w, &c), 0);
        assert_int_equal(c.op.count, i < 2 ? 100 : 0);
        assert_int_equal(c.op.more, i < 1);
        store_op_fini(&c.op);
    }
    assert_int_equal(stats(&w).jobs[STORE_DONE], 0);
    store_close(&w.store);
    assert_int_equal(stat(file_in(&w, "weir.db"), &empty), 0);
    assert_true(empty.st_size < full.st_size / 2);
    world_open(&w);
    world_fini(&w);
}

/* ---- blobs ---- */

static void check_blob(struct world *w, uint64_t blob, uint64_t after, size_t limit, const char *want) {
    struct call c;
    begin(&c, STORE_BLOB_READ);
    c.op.blob = blob;
    c.op.after = after;
    c.op.limit = limit;
    assert_int_equal(run(w, &c), 0);
    assert_true(slice_eq(c.op.ret_bytes, slice_of(want)));
    store_op_fini(&c.op);
}

static void begin_put_blob(struct call *c, uint64_t n, uint64_t blob) {
    begin_put(c, n, true, "");
    c->op.job.message.body = (struct store_body){.blob = blob, .size = 5};
}

static void test_blobs(void **state) {
    struct world w;
    struct call c;
    world_init(&w);
    if (*state) w.config.dir = NULL;
    world_open(&w);
    uint64_t kept = new_blob(&w, "hello"), loose = new_blob(&w, "loose"), dropped = new_blob(&w, "dropped");
    begin_put_blob(&c, 1, kept);
    assert_int_equal(run(&w, &c), WEIR_ESTATE); /* not closed yet */
    assert_int_equal(blob_op(&w, STORE_BLOB_CLOSE, kept), 0);
    assert_int_equal(blob_op(&w, STORE_BLOB_WRITE, kept), WEIR_ESTATE);
    begin_put_blob(&c, 1, kept);
    assert_int_equal(run(&w, &c), 0);
    begin_put_blob(&c, 2, kept);
    assert_int_equal(run(&w, &c), WEIR_ENOTFOUND); /* it is the first one's */
    assert_int_equal(blob_op(&w, STORE_BLOB_CLOSE, loose), 0);
    assert_int_equal(blob_op(&w, STORE_BLOB_DROP, dropped), 0);
    assert_int_equal(blob_op(&w, STORE_BLOB_READ, dropped), WEIR_ENOTFOUND);
    assert_int_equal(blob_op(&w, STORE_BLOB_DROP, kept), WEIR_ENOTFOUND);
    check_blob(&w, kept, 1, 3, "ell");
    check_blob(&w, kept, 3, 100, "lo");
    check_blob(&w, kept, 7, 100, "");
    assert_int_equal(stats(&w).blobs, 2);
    assert_int_equal(stats(&w).blob_bytes, 10);
    if (!*state) {
        store_close(&w.store);
        world_open(&w);
        assert_int_equal(blob_files(&w), 1);
        assert_int_equal(blob_op(&w, STORE_BLOB_READ, loose), WEIR_ENOTFOUND);
        assert_int_equal(stats(&w).blobs, 1);
        assert_true(new_blob(&w, "new") != kept);
    }
    check_blob(&w, kept, 0, 100, "hello");
    assert_int_equal(finish(&w, 1, 1, STORE_DEAD), 0); /* keeps its message */
    check_blob(&w, kept, 0, 100, "hello");
    begin(&c, STORE_SWEEP);
    c.op.now = 9000;
    c.op.limit = 10;
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.count, 1);
    store_op_fini(&c.op);
    assert_int_equal(stats(&w).blobs, 1);
    store_close(&w.store);
    if (!*state) world_open(&w);
    if (!*state) assert_int_equal(blob_files(&w), 0);
    world_fini(&w);
}

static void test_blobs_of_steps(void **state) {
    struct world w;
    struct call c;
    (void)state;
    world_init(&w);
    world_open(&w);
    uint64_t first = new_blob(&w, "first"), second = new_blob(&w, "second");
    assert_int_equal(blob_op(&w, STORE_BLOB_CLOSE, first), 0);
    assert_int_equal(blob_op(&w, STORE_BLOB_CLOSE, second), 0);
    begin_put_blob(&c, 1, first);
    assert_int_equal(run(&w, &c), 0);
    for (int i = 0; i < 2; i++) { /* the same one again, then another */
        begin(&c, STORE_JOB_STEP);
        c.op.job = (struct store_job){.id = id_of(1), .fence = 1, .service = SLICE("next"), .hop = 1};
        c.op.job.message.body = (struct store_body){.blob = i ? second : first, .size = i ? 6 : 5};
        assert_int_equal(run(&w, &c), 0);
        assert_int_equal(stats(&w).blobs, 2 - i);
    }
    check_blob(&w, second, 0, 100, "second");
    begin(&c, STORE_TOPIC_APPEND); /* there is no such topic: the body is gone */
    uint64_t third = new_blob(&w, "third");
    assert_int_equal(blob_op(&w, STORE_BLOB_CLOSE, third), 0);
    c.op.topic = SLICE("nobody");
    c.op.message.body = (struct store_body){.blob = third, .size = 5};
    assert_int_equal(run(&w, &c), 0);
    assert_int_equal(c.op.message_id, 0);
    assert_int_equal(stats(&w).blobs, 1);
    store_close(&w.store);
    assert_int_equal(blob_files(&w), 1);
    world_fini(&w);
}

int main(void) {
    static int in_memory = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_a_job),
        {"test_life_of_a_job_in_memory", test_life_of_a_job, NULL, NULL, &in_memory},
        cmocka_unit_test(test_topics),
        {"test_topics_in_memory", test_topics, NULL, NULL, &in_memory},
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_log_is_bounded),
        cmocka_unit_test(test_newer_version),
        cmocka_unit_test(test_somebody_elses),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_group_commit),
        cmocka_unit_test(test_many_queued),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_file_shrinks),
        cmocka_unit_test(test_blobs),
        {"test_blobs_in_memory", test_blobs, NULL, NULL, &in_memory},
        cmocka_unit_test(test_blobs_of_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
