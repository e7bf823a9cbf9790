/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libweir's worker against a small hub made here: an nghttp2 client on the other end of a socketpair. What
 * the worker sends is written down, in order, as text ("settings 2", "close 1 0"), and the tests wait for
 * words of it.
 *
 * Threading: the test is the hub; the worker runs on a thread of its own (and its job threads). Handlers
 * check nothing themselves: they answer, or leave a result in struct gate, and the test compares.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <weir/weir.h>

enum { LIMIT_MS = 10000, STREAMS = 16, BIG = 1 << 20 };

/* ---- handlers ---- */

struct gate {
    sem_t entered, leave, left;
    int result; /* of what the handler was in, before left is posted */
};

static int echo(weir_job *job, void *arg) {
    const char *body;
    size_t size;
    (void)arg;
    int err = weir_job_body(job, &body, &size);
    return err == 0 ? weir_reply(job, 200, "text/plain", body, size) : err;
}

static int count(weir_job *job, void *arg) {
    char piece[5000];
    size_t total = 0;
    ptrdiff_t n;
    (void)arg;
    while ((n = weir_job_body_read(job, piece, sizeof(piece))) > 0) total += (size_t)n;
    return n < 0 ? (int)n : weir_reply_printf(job, 200, NULL, "%zu", total);
}

static int early(weir_job *job, void *arg) {
    (void)arg;
    return weir_reply_problem(job, 403, "not %s", "you");
}

static int nothing(weir_job *job, void *arg) {
    (void)job;
    (void)arg;
    return 0;
}

/* Runs on whatever happens to its job, until it is let go. */
static int hold(weir_job *job, void *arg) {
    struct gate *g = arg;
    sem_post(&g->entered);
    sem_wait(&g->leave);
    int cancelled = weir_job_cancelled(job);
    __atomic_store_n(&g->result, cancelled, __ATOMIC_RELEASE); /* several may be let go at once */
    sem_post(&g->left);
    return weir_reply(job, 200, NULL, "held", 4);
}

static int sleeper(weir_job *job, void *arg) {
    struct gate *g = arg;
    sem_post(&g->entered);
    g->result = weir_job_wait(job, 60000);
    sem_post(&g->left);
    return g->result;
}

static int reader(weir_job *job, void *arg) {
    struct gate *g = arg;
    char piece[100];
    sem_post(&g->entered);
    while ((g->result = (int)weir_job_body_read(job, piece, sizeof(piece))) > 0) {
    }
    sem_post(&g->left);
    return g->result;
}

static int writer(weir_job *job, void *arg) {
    static const char piece[10000];
    struct gate *g = arg;
    g->result = weir_reply_begin(job, 200, "text/plain");
    sem_post(&g->entered);
    while (g->result == 0) g->result = weir_reply_write(job, piece, sizeof(piece));
    sem_post(&g->left);
    return g->result;
}

static int query(weir_job *job, void *arg) {
    static const char *const names[] = {"a", "b", "empty", "flag", "key", "bad", "missing"};
    static const char *const numbers[] = {"a", "max", "over", "minus", "flag", "missing"};
    char text[512];
    size_t n = 0;
    (void)arg;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        const char *value = weir_job_query(job, names[i]);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s=%s;", names[i], value ? value : "(none)");
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        uint64_t value = 7;
        int err = weir_job_query_u64(job, numbers[i], &value);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%d %" PRIu64 ";", err, value);
    }
    return weir_reply(job, 200, NULL, text, n);
}

static int head(weir_job *job, void *arg) {
    (void)arg;
    const char *absent = weir_job_header(job, "x-absent"), *host = weir_job_header(job, "HOST");
    const char *name, *value;
    size_t fields = 0;
    while (weir_job_header_at(job, fields, &name, &value) == 0) fields++;
    int64_t left = weir_job_time_left(job);
    int wrong = weir_job_set_header(job, "Content-Length", "1"),
        split = weir_job_set_header(job, "x", "a\r\nb: c");
    int err = weir_job_set_header(job, "X-Made", "yes");
    if (err != 0) return err;
    return weir_reply_printf(job, 201, "text/plain", "%s %s %s %s %s %u %u %s %s %zu %d %d %d",
                             weir_job_id(job), weir_job_service(job), weir_job_method(job),
                             weir_job_target(job), weir_job_path(job), weir_job_hop(job),
                             weir_job_attempt(job), host, absent ? absent : "-", fields,
                             left > 4000 && left <= 5000, wrong, split);
}

static int onward(weir_job *job, void *arg) {
    (void)arg;
    int bad = weir_forward(job, "no service", NULL, NULL, NULL, 0);
    return bad == WEIR_EINVAL ? weir_forward(job, "next", "/x?y", "text/plain", "on", 2) : WEIR_ESTATE;
}

/* ---- the hub ---- */

struct answer {
    char body[512];
    size_t size, total;
};

struct body {
    size_t left;
    const char *p; /* NULL: that many times 'x' */
    bool endless;  /* no END_STREAM: more could come */
};

struct hub {
    int fd;
    nghttp2_session *session;
    char upgrade[2048], log[8192];
    size_t log_size;
    struct answer answers[STREAMS];
    struct body bodies[STREAMS];
    bool closed;

    weir_worker *worker;
    pthread_t thread;
    int served; /* what weir_worker_serve gave */
    bool joined;
    struct gate gate;
};

__attribute__((format(printf, 2, 3))) static void note(struct hub *h, const char *format, ...) {
    va_list args;
    va_start(args, format);
    h->log_size += (size_t)vsnprintf(h->log + h->log_size, sizeof(h->log) - h->log_size, format, args);
    va_end(args);
    assert_true(h->log_size < sizeof(h->log));
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *f, void *arg) {
    struct hub *h = arg;
    (void)session;
    if (f->hd.type == NGHTTP2_SETTINGS && !(f->hd.flags & NGHTTP2_FLAG_ACK))
        for (size_t i = 0; i < f->settings.niv; i++)
            if (f->settings.iv[i].settings_id == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                note(h, "settings %u\n", f->settings.iv[i].value);
    if (f->hd.type == NGHTTP2_PING && (f->hd.flags & NGHTTP2_FLAG_ACK))
        note(h, "pong %.8s\n", (const char *)f->ping.opaque_data);
    if (f->hd.type == NGHTTP2_GOAWAY)
        note(h, "goaway %d %u\n", f->goaway.last_stream_id, f->goaway.error_code);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *arg) {
    (void)session, (void)flags;
    note(arg, "%d %.*s: %.*s\n", f->hd.stream_id, (int)name_size, (const char *)name, (int)value_size,
         (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t n,
                   void *arg) {
    struct hub *h = arg;
    struct answer *a = &h->answers[stream / 2];
    size_t room = sizeof(a->body) - 1 - a->size, kept = n < room ? n : room;
    (void)session, (void)flags;
    memcpy(a->body + a->size, bytes, kept);
    a->size += kept;
    a->total += n;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg) {
    (void)session;
    note(arg, "close %d %u\n", stream, error);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *arg) {
    struct body *b = source->ptr;
    size_t n = b->left < length ? b->left : length;
    (void)session, (void)stream, (void)arg;
    if (b->p)
        memcpy(buf, b->p, n);
    else
        memset(buf, 'x', n);
    if (b->p) b->p += n;
    b->left -= n;
    if (b->left == 0 && b->endless) return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    if (b->left == 0) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void send_all(struct hub *h, const void *bytes, size_t n) {
    for (const char *p = bytes; n > 0;) {
        ssize_t sent = send(h->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* the worker is gone: told by receive */
        assert_true(sent > 0);
        p += sent;
        n -= (size_t)sent;
    }
}

/* Appends what the session has to send; with order, so that a RST_STREAM can go ahead of an urgent PING. */
static size_t gather(struct hub *h, uint8_t *out, size_t size, size_t n) {
    const uint8_t *frames;
    ssize_t got;
    while ((got = nghttp2_session_mem_send(h->session, &frames)) > 0) {
        assert_true(n + (size_t)got <= size);
        memcpy(out + n, frames, (size_t)got);
        n += (size_t)got;
    }
    return n;
}

static void flush(struct hub *h) {
    const uint8_t *frames;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(h->session, &frames)) > 0) send_all(h, frames, (size_t)n);
    assert_int_equal(n, 0);
}

static void receive(struct hub *h, int timeout_ms) {
    uint8_t bytes[16384];
    struct pollfd p = {.fd = h->fd, .events = POLLIN};
    if (h->closed || poll(&p, 1, timeout_ms) <= 0) return;
    ssize_t n = recv(h->fd, bytes, sizeof(bytes), 0);
    if (n <= 0) {
        h->closed = true;
        note(h, "closed\n");
    } else {
        assert_int_equal(nghttp2_session_mem_recv(h->session, bytes, (size_t)n), n);
    }
}

/* Waits until the log has text, from its byte `from` on; gives where the text ends. */
static size_t expect_after(struct hub *h, size_t from, const char *text) {
    for (int64_t end = now_ms() + LIMIT_MS;;) {
        const char *found = strstr(h->log + from, text);
        if (found) return (size_t)(found - h->log) + strlen(text);
        if (now_ms() >= end || h->closed) fail_msg("no \"%s\" after byte %zu of:\n%s", text, from, h->log);
        flush(h);
        receive(h, 100);
    }
}

static size_t expect(struct hub *h, const char *text) {
    return expect_after(h, 0, text);
}

static nghttp2_nv nv(const char *name, const char *value) {
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* Queues a request: body NULL with n bytes is n times 'x'; n 0: none. It goes with the next flush. */
static int32_t ask(struct hub *h, const char *service, const char *target, const char *body, size_t n) {
    nghttp2_nv fields[] = {nv(":method", n ? "POST" : "GET"),
                           nv(":scheme", "http"),
                           nv(":authority", "example.org"),
                           nv(":path", target),
                           nv("weir-job", "j1"),
                           nv("weir-service", service),
                           nv("weir-hop", "2"),
                           nv("weir-attempt", "3"),
                           nv("weir-deadline-ms", "5000")};
    int32_t next = (int32_t)nghttp2_session_get_next_stream_id(h->session);
    struct body *b = &h->bodies[next / 2];
    *b = (struct body){.left = n, .p = body};
    nghttp2_data_provider provider = {.source.ptr = b, .read_callback = read_body};
    int32_t stream = nghttp2_submit_request(h->session, NULL, fields, sizeof(fields) / sizeof(*fields),
                                            n ? &provider : NULL, NULL);
    assert_int_equal(stream, next);
    return stream;
}

static const char *body_of(struct hub *h, int32_t stream) {
    char text[32];
    snprintf(text, sizeof(text), "close %d 0\n", stream);
    expect(h, text);
    return h->answers[stream / 2].body;
}

static void wait_sem(sem_t *s) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_MS / 1000;
    int err;
    while ((err = sem_timedwait(s, &until)) != 0 && errno == EINTR) {
    }
    assert_int_equal(err, 0);
}

/* ---- setup ---- */

static void *serve(void *arg) {
    struct hub *h = arg;
    h->served = weir_worker_serve(h->worker);
    return NULL;
}

static void new_session(struct hub *h) {
    nghttp2_session_callbacks *c;
    assert_int_equal(nghttp2_session_callbacks_new(&c), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
    assert_int_equal(nghttp2_session_client_new(&h->session, c, h), 0);
    nghttp2_session_callbacks_del(c);
    assert_int_equal(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static void accept_upgrade(struct hub *h) {
    static const char yes[] =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ptth\r\n\r\n";
    size_t n = 0;
    while (!strstr(h->upgrade, "\r\n\r\n")) {
        struct pollfd p = {.fd = h->fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
        ssize_t got = recv(h->fd, h->upgrade + n, sizeof(h->upgrade) - 1 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
    send_all(h, yes, sizeof(yes) - 1);
}

/* A worker with these slots that waits for its first request; the hub has not yet read its SETTINGS. */
static struct hub *start(unsigned slots, unsigned first_slots, unsigned drain_ms) {
    struct hub *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_int_equal(
        sem_init(&h->gate.entered, 0, 0) | sem_init(&h->gate.leave, 0, 0) | sem_init(&h->gate.left, 0, 0), 0);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    h->fd = fds[0];
    weir_worker_options o = {
        .fd = fds[1], .slots = slots, .id = "w1", .drain_ms = drain_ms, .max_body = 1000};
    assert_int_equal(weir_worker_open(&o, &h->worker), 0);
    static const struct {
        const char *name;
        weir_handler *handler;
    } all[] = {{"echo", echo},     {"count", count},   {"early", early},  {"nothing", nothing},
               {"hold", hold},     {"head", head},     {"query", query},  {"sleeper", sleeper},
               {"reader", reader}, {"writer", writer}, {"onward", onward}};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        assert_int_equal(weir_worker_offer(h->worker, all[i].name, all[i].handler, &h->gate), 0);
    if (first_slots != slots) assert_int_equal(weir_worker_set_slots(h->worker, first_slots), 0);
    assert_int_equal(pthread_create(&h->thread, NULL, serve, h), 0);
    new_session(h);
    accept_upgrade(h);
    return h;
}

static void join(struct hub *h) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_MS / 1000;
    assert_int_equal(pthread_timedjoin_np(h->thread, NULL, &until), 0);
    h->joined = true;
    assert_int_equal(h->served, 0);
}

/* Closes the hub's end unless the worker has ended by itself: it has to end then too. */
static void finish(struct hub *h) {
    close(h->fd);
    if (!h->joined) join(h);
    weir_worker_free(&h->worker);
    assert_null(h->worker);
    nghttp2_session_del(h->session);
    sem_destroy(&h->gate.entered);
    sem_destroy(&h->gate.leave);
    sem_destroy(&h->gate.left);
    free(h);
}

/* ---- tests ---- */

static void upgrade_says_who_it_is(void **state) {
    (void)state;
    struct hub *h = start(3, 3, 0);
    assert_true(strncmp(h->upgrade, "GET /.well-known/ptth/", 22) == 0);
    assert_non_null(strstr(h->upgrade, "\r\nUpgrade: ptth\r\n"));
    assert_non_null(strstr(h->upgrade, "\r\nALPN: h2\r\n"));
    assert_non_null(strstr(h->upgrade, "echo,count,early"));
    assert_non_null(strstr(h->upgrade, "\r\nWeir-Worker: w1\r\n"));
    expect(h, "settings 3\n");
    finish(h);
}

static void a_job_and_its_answer(void **state) {
    (void)state;
    struct hub *h = start(1, 1, 0);
    int32_t s = ask(h, "head", "/a/b?c=d", NULL, 0);
    assert_string_equal(body_of(h, s), "j1 head GET /a/b?c=d /a/b 2 3 example.org - 6 1 0 -2");
    expect(h, "1 :status: 201\n");
    expect(h, "1 content-type: text/plain\n");
    expect(h, "1 x-made: yes\n");
    assert_string_equal(body_of(h, ask(h, "echo", "/", "hello", 5)), "hello");
    expect(h, "3 content-length: 5\n");
    for (int i = 0; i < 10; i++) assert_string_equal(body_of(h, ask(h, "echo", "/", "again", 5)), "again");
    finish(h);
}

static void answers_that_are_no_success(void **state) {
    (void)state;
    struct hub *h = start(1, 1, 0);
    body_of(h, ask(h, "nothing", "/", NULL, 0));
    expect(h, "1 :status: 500\n");
    expect(h, "1 content-type: application/problem+json\n");
    assert_non_null(strstr(body_of(h, ask(h, "early", "/", NULL, 0)), "\"not you\""));
    expect(h, "3 :status: 403\n");
    body_of(h, ask(h, "echo", "/", NULL, 1001)); /* over max_body */
    expect(h, "5 :status: 500\n");
    body_of(h, ask(h, "echo", "/", NULL, 1000));
    expect(h, "7 :status: 200\n");
    assert_string_equal(body_of(h, ask(h, "onward", "/", NULL, 0)), "on");
    expect(h, "9 weir-forward: next /x?y\n");
    ask(h, "unknown", "/", NULL, 0);
    expect(h, "close 11 7\n"); /* REFUSED_STREAM: safe to run elsewhere */
    finish(h);
}

static void big_bodies(void **state) {
    (void)state;
    struct hub *h = start(2, 2, 0);
    int32_t read = ask(h, "count", "/", NULL, BIG), unread = ask(h, "early", "/", NULL, BIG);
    assert_string_equal(body_of(h, read), "1048576");
    body_of(h, unread);
    assert_int_equal(h->bodies[unread / 2].left, 0); /* flow control let the whole of it pass */
    assert_string_equal(body_of(h, ask(h, "count", "/", NULL, 3 * BIG)), "3145728");
    finish(h);
}

static void more_jobs_than_slots(void **state) {
    (void)state;
    struct hub *h = start(2, 2, 0);
    for (int i = 0; i < 4; i++) ask(h, "hold", "/", NULL, 0); /* the hub has not seen SETTINGS: all go out */
    expect(h, "close 5 7\n");
    expect(h, "close 7 7\n");
    for (int i = 0; i < 2; i++) wait_sem(&h->gate.entered);
    for (int i = 0; i < 2; i++) sem_post(&h->gate.leave);
    assert_string_equal(body_of(h, 1), "held");
    assert_string_equal(body_of(h, 3), "held");
    finish(h);
}

static void a_cancelled_job_holds_its_slot(void **state) {
    (void)state;
    struct hub *h = start(2, 2, 0);
    expect(h, "settings 2\n");
    int32_t s = ask(h, "hold", "/", NULL, 0);
    flush(h);
    wait_sem(&h->gate.entered);
    uint8_t out[1024];
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s, NGHTTP2_CANCEL);
    size_t n = gather(h, out, sizeof(out), 0);
    nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"reset-1");
    n = gather(h, out, sizeof(out), n);
    send_all(h, out, n);
    assert_string_equal(body_of(h, ask(h, "echo", "/", "beside", 6)), "beside"); /* the other slot works */
    static const uint8_t heartbeat[8];
    nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, heartbeat);
    nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"reset-2");
    flush(h);
    expect(h, "pong \n"); /* the heartbeat's, at once */
    assert_null(strstr(h->log, "pong reset"));
    sem_post(&h->gate.leave);
    expect_after(h, expect(h, "pong reset-1\n"), "pong reset-2\n");
    wait_sem(&h->gate.left);
    assert_int_equal(h->gate.result, 1); /* it could see that it was cancelled */
    finish(h);
}

/* Cancels stream 1 once its handler is in what is to be woken. */
static int cancelled_in(const char *service, size_t body) {
    struct hub *h = start(1, 1, 0);
    int32_t s = ask(h, service, "/", NULL, body);
    h->bodies[s / 2].endless = true;
    flush(h);
    wait_sem(&h->gate.entered);
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s, NGHTTP2_CANCEL);
    flush(h);
    nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"reset-1");
    expect(h, "pong reset-1\n"); /* its handler has returned */
    wait_sem(&h->gate.left);
    int result = h->gate.result;
    assert_string_equal(body_of(h, ask(h, "echo", "/", "next", 4)), "next");
    finish(h);
    return result;
}

static void a_cancel_wakes_the_handler(void **state) {
    (void)state;
    assert_int_equal(cancelled_in("sleeper", 0), WEIR_ECANCELLED);
    assert_int_equal(cancelled_in("writer", 0), WEIR_ECANCELLED);
    assert_int_equal(cancelled_in("reader", 1), WEIR_ECANCELLED);
}

static void lost_hub_cancels_what_runs(void **state) {
    (void)state;
    static const char *const services[] = {"sleeper", "writer"};
    for (int i = 0; i < 2; i++) {
        struct hub *h = start(1, 1, 0);
        ask(h, services[i], "/", NULL, 0);
        flush(h);
        wait_sem(&h->gate.entered);
        shutdown(h->fd, SHUT_RDWR);
        wait_sem(&h->gate.left);
        assert_int_equal(h->gate.result, WEIR_ECANCELLED);
        finish(h);
    }
}

static void slots_change_while_it_runs(void **state) {
    (void)state;
    struct hub *h = start(3, 1, 0);
    size_t at = expect(h, "settings 1\n");
    assert_int_equal(weir_worker_set_slots(h->worker, 4), WEIR_EINVAL);
    assert_int_equal(weir_worker_set_slots(h->worker, 0), 0);
    at = expect_after(h, at, "settings 0\n");
    int32_t s = ask(h, "echo", "/", "gate", 4); /* kept back by the hub's side */
    flush(h);
    receive(h, 50);
    assert_null(strstr(h->log, ":status"));
    assert_int_equal(weir_worker_set_slots(h->worker, 3), 0);
    expect_after(h, at, "settings 3\n");
    assert_string_equal(body_of(h, s), "gate");
    finish(h);
}

static void no_slots_refuse(void **state) {
    (void)state;
    struct hub *h = start(1, 0, 0);
    ask(h, "echo", "/", "x", 1); /* before its SETTINGS are read */
    expect(h, "close 1 7\n");
    finish(h);
}

static void stop_drains(void **state) {
    (void)state;
    struct hub *h = start(2, 2, 0);
    expect(h, "settings 2\n");
    int32_t s = ask(h, "hold", "/", NULL, 0);
    flush(h);
    wait_sem(&h->gate.entered);
    weir_worker_stop(h->worker);
    expect(h, "goaway 1 0\n");
    assert_null(strstr(h->log, "closed"));
    sem_post(&h->gate.leave);
    assert_string_equal(body_of(h, s), "held");
    assert_int_equal(h->gate.result, 0);
    join(h);
    finish(h);
}

static void stop_of_an_idle_worker(void **state) {
    (void)state;
    struct hub *h = start(2, 2, 0);
    expect(h, "settings 2\n");
    weir_worker_stop(h->worker);
    expect(h, "goaway 0 0\n");
    expect(h, "closed\n");
    join(h);
    finish(h);
}

static void second_stop_and_drain_time_cancel(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct hub *h = start(1, 1, i == 0 ? 0 : 50);
        ask(h, "sleeper", "/", NULL, 0);
        flush(h);
        wait_sem(&h->gate.entered);
        weir_worker_stop(h->worker);
        if (i == 0) weir_worker_stop(h->worker);
        wait_sem(&h->gate.left);
        assert_int_equal(h->gate.result, WEIR_ECANCELLED);
        join(h);
        finish(h);
    }
}

static void queries(void **state) {
    (void)state;
    struct hub *h = start(1, 1, 0);
    int32_t s = ask(h, "query",
                    "/q?a=12&b=two%20words+and%2Bmore&empty=&flag&a=2&k%65y=v%3D%26&bad=%zz"
                    "&max=18446744073709551615&over=18446744073709551616&minus=-1",
                    NULL, 0);
    assert_string_equal(body_of(h, s),
                        "a=12;b=two words and+more;empty=;flag=;key=v=&;bad=(none);missing=(none);"
                        "0 12;0 18446744073709551615;-2 7;-2 7;-2 7;-24 7;");
    assert_string_equal(body_of(h, ask(h, "query", "/q", NULL, 0)),
                        "a=(none);b=(none);empty=(none);flag=(none);key=(none);bad=(none);missing=(none);"
                        "-24 7;-24 7;-24 7;-24 7;-24 7;-24 7;");
    finish(h);
}

static void wrong_options(void **state) {
    (void)state;
    weir_worker *w = NULL;
    static const weir_worker_options bad[] = {{.slots = 1000000},
                                              {.id = "a\r\nb"},
                                              {.hub = "nonsense"},
                                              {.labels = "a\nb"},
                                              {.hub = "127.0.0.1:1,,"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(weir_worker_open(&bad[i], &w), WEIR_EINVAL);
        assert_null(w);
        assert_null(weir_worker_new(&bad[i]));
    }
    w = weir_worker_new(&(weir_worker_options){0});
    assert_non_null(w);
    assert_int_equal(weir_worker_serve(w), WEIR_ESTATE); /* nothing offered */
    assert_int_equal(weir_worker_offer(w, "no service", echo, NULL), WEIR_EINVAL);
    assert_int_equal(weir_worker_offer(w, "", echo, NULL), WEIR_EINVAL);
    assert_int_equal(weir_worker_offer(w, "echo", NULL, NULL), WEIR_EINVAL);
    weir_worker_free(&w);
    weir_worker_free(&w);
    weir_worker_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upgrade_says_who_it_is),
        cmocka_unit_test(a_job_and_its_answer),
        cmocka_unit_test(answers_that_are_no_success),
        cmocka_unit_test(big_bodies),
        cmocka_unit_test(more_jobs_than_slots),
        cmocka_unit_test(a_cancelled_job_holds_its_slot),
        cmocka_unit_test(a_cancel_wakes_the_handler),
        cmocka_unit_test(lost_hub_cancels_what_runs),
        cmocka_unit_test(slots_change_while_it_runs),
        cmocka_unit_test(no_slots_refuse),
        cmocka_unit_test(stop_drains),
        cmocka_unit_test(stop_of_an_idle_worker),
        cmocka_unit_test(second_stop_and_drain_time_cancel),
        cmocka_unit_test(queries),
        cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
