/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sqlite_world.h"
#include "weir/weir.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wake(void *ctx) {
    struct world *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->wake = true;
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->lock);
}

void world_init(struct world *w) {
    *w = (struct world){.lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER};
    strcpy(w->dir, "/tmp/test-store-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->config = (struct store_sqlite_config){.dir = w->dir, .wake = wake, .ctx = w};
}

int try_open(struct world *w, char **ret_text) {
    return store_sqlite_open(&w->config, &w->store, ret_text);
}

void world_open(struct world *w) {
    char *text = NULL;
    int err = try_open(w, &text);
    if (err != 0) fail_msg("open: %s (%s)", weir_strerror(err), text ? text : "");
    assert_null(text);
}

static void remove_tree(const char *path) {
    char name[512];
    DIR *dir = opendir(path);
    if (!dir) {
        unlink(path);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0) remove_tree(name);
    }
    closedir(dir);
    rmdir(path);
}

void world_fini(struct world *w) {
    store_close(&w->store);
    remove_tree(w->dir);
}

const char *file_in(const struct world *w, const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return path;
}

/* Waits for a wake-up (10 s at most) and takes what is done. */
void world_turn(struct world *w) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&w->lock);
    while (!w->wake) assert_int_equal(pthread_cond_timedwait(&w->woken, &w->lock, &until), 0);
    w->wake = false;
    pthread_mutex_unlock(&w->lock);
    store_turn(w->store);
}

static void done(struct store_op *op) {
    struct call *c = (struct call *)op;
    assert_false(c->done);
    c->done = true;
}

void begin(struct call *c, enum store_kind kind) {
    store_op_init(&c->op, kind, done);
    c->done = false;
}

void await(struct world *w, const struct call *c) {
    while (!c->done) world_turn(w);
}

int run(struct world *w, struct call *c) {
    store_submit(w->store, &c->op);
    assert_false(c->done);
    await(w, c);
    return c->op.err;
}

/* ---- operations ---- */

struct store_id id_of(uint64_t n) {
    return (struct store_id){0x0198c7e200007000 | n >> 32, 0x8000000000000000 | n};
}

static struct store_message message(const char *body) {
    return (struct store_message){SLICE("POST /x HTTP/1.1\r\nhost: h\r\n\r\n"), {.bytes = slice_of(body)}};
}

void begin_put(struct call *c, uint64_t n, bool lease, const char *body) {
    begin(c, STORE_JOB_PUT);
    c->op.lease = lease;
    c->op.job = (struct store_job){.id = id_of(n),
                                   .service = SLICE("primes"),
                                   .tenant = SLICE("t"),
                                   .priority = 4,
                                   .created = 1000 + n,
                                   .message = message(body)};
}

int put(struct world *w, uint64_t n, bool lease) {
    struct call c;
    begin_put(&c, n, lease, "body");
    int err = run(w, &c);
    store_op_fini(&c.op);
    return err;
}

void begin_finish(struct call *c, uint64_t n, uint64_t fence, enum store_job_state state) {
    begin(c, STORE_JOB_FINISH);
    c->op.job = (struct store_job){.id = id_of(n),
                                   .fence = fence,
                                   .state = state,
                                   .ended = 5000,
                                   .expires = 9000,
                                   .status = state == STORE_DONE ? 200 : 0,
                                   .reason = SLICE("why"),
                                   .answer = {SLICE("HTTP/1.1 200 OK\r\n\r\n"), {.bytes = SLICE("answer")}}};
}

int finish(struct world *w, uint64_t n, uint64_t fence, enum store_job_state state) {
    struct call c;
    begin_finish(&c, n, fence, state);
    int err = run(w, &c);
    store_op_fini(&c.op);
    return err;
}

/* The job's state; or the error. */
int state_of(struct world *w, uint64_t n) {
    struct call c;
    begin(&c, STORE_JOB_GET);
    c.op.job.id = id_of(n);
    int err = run(w, &c), state = (int)c.op.ret_job.state;
    store_op_fini(&c.op);
    return err != 0 ? err : state;
}

void begin_lease(struct call *c, size_t limit) {
    begin(c, STORE_JOB_LEASE);
    c->op.line = (struct store_line){.service = SLICE("primes"), .tenant = SLICE("t"), .priority = 4};
    c->op.limit = limit;
}

size_t lease(struct world *w, size_t limit) {
    struct call c;
    begin_lease(&c, limit);
    assert_int_equal(run(w, &c), 0);
    store_op_fini(&c.op);
    return c.op.count;
}

int topic_op(struct world *w, struct call *c, enum store_kind kind, const char *topic, const char *name) {
    begin(c, kind);
    c->op.topic = slice_of(topic);
    c->op.name = slice_of(name);
    c->op.limit = 100;
    c->op.most_bytes = 1 << 20;
    return run(w, c);
}

int subscribe(struct world *w, const char *topic, const char *name) {
    struct call c;
    int err = topic_op(w, &c, STORE_TOPIC_SUBSCRIBE, topic, name);
    store_op_fini(&c.op);
    return err;
}

int unsubscribe(struct world *w, const char *topic, const char *name) {
    struct call c;
    return topic_op(w, &c, STORE_TOPIC_UNSUBSCRIBE, topic, name);
}

uint64_t append(struct world *w, const char *topic, const char *body) {
    struct call c;
    begin(&c, STORE_TOPIC_APPEND);
    c.op.topic = slice_of(topic);
    c.op.message = (struct store_topic_message){
        .type = SLICE("text/plain"), .at = 77, .body = {.bytes = slice_of(body)}};
    assert_int_equal(run(w, &c), 0);
    return c.op.message_id;
}

int ack(struct world *w, const char *topic, const char *name, uint64_t message_id, bool up_to,
        uint64_t *ret_position) {
    struct call c;
    begin(&c, STORE_TOPIC_ACK);
    c.op.topic = slice_of(topic);
    c.op.name = slice_of(name);
    c.op.message_id = message_id;
    c.op.up_to = up_to;
    int err = run(w, &c);
    if (err == 0) *ret_position = c.op.position;
    return err;
}

/* The bodies that a subscription has yet to read, joined by commas. */
void check_unread(struct world *w, const char *topic, const char *name, const char *want) {
    char text[256] = "";
    struct call c;
    assert_int_equal(topic_op(w, &c, STORE_TOPIC_READ, topic, name), 0);
    for (size_t i = 0; i < c.op.count; i++) {
        if (i) strcat(text, ",");
        strncat(text, c.op.messages[i].body.bytes.p, c.op.messages[i].body.bytes.n);
    }
    assert_string_equal(text, want);
    store_op_fini(&c.op);
}

struct store_stats stats(struct world *w) {
    struct store_stats s;
    store_stats(w->store, &s);
    return s;
}

uint64_t new_blob(struct world *w, const char *bytes) {
    struct call c;
    begin(&c, STORE_BLOB_NEW);
    assert_int_equal(run(w, &c), 0);
    uint64_t blob = c.op.blob;
    begin(&c, STORE_BLOB_WRITE);
    c.op.blob = blob;
    c.op.bytes = slice_of(bytes);
    assert_int_equal(run(w, &c), 0);
    return blob;
}

int blob_op(struct world *w, enum store_kind kind, uint64_t blob) {
    struct call c;
    begin(&c, kind);
    c.op.blob = blob;
    c.op.bytes = SLICE("more");
    c.op.limit = 4;
    int err = run(w, &c);
    store_op_fini(&c.op);
    return err;
}

unsigned blob_files(const struct world *w) {
    unsigned n = 0;
    for (unsigned i = 0; i < 256; i++) {
        char name[32];
        snprintf(name, sizeof name, "blobs/%02x", i);
        DIR *dir = opendir(file_in(w, name));
        for (struct dirent *e; dir && (e = readdir(dir));) n += e->d_name[0] != '.';
        if (dir) closedir(dir);
    }
    return n;
}

void damage(const struct world *w, off_t at, size_t size) {
    char *junk = malloc(size);
    assert_non_null(junk);
    memset(junk, 0xa5, size);
    int fd = open(file_in(w, "weir.db"), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, junk, size, at), size);
    close(fd);
    free(junk);
}
