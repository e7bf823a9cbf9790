/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libweir's client out of memory: each story runs with its first allocation failing, then its second, and so
 * on until none does. Each time it must say so, and leak nothing. (What it does with hubs, and with servers
 * that are none, is in test/integ/t34_client.py.)
 *
 * Threading: the server is a thread of its own, which allocates nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/fault.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weir/weir.h>

/* ---- a server ---- */

static const struct {
    const char *begin, *answer;
} answers[] = {
    {"GET /-/topics/T/none?", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"GET /-/topics/",
     "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nWeir-Message: 7\r\nWeir-Published: 2026-11-21T10:00:00.250Z\r\n"
     "Weir-Delivery: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"},
    {"POST /-/topics/", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    {"DELETE /-/topics/",
     "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 38\r\n\r\n"
     "{\"status\":404,\"detail\":\"no such hat\"}\n"},
    {"POST /s", "HTTP/1.1 202 Accepted\r\nLocation: /-/jobs/12-34\r\nPreference-Applied: respond-async\r\n"
                "Content-Length: 0\r\n\r\n"},
    {"GET /-/jobs/12-34/result",
     "HTTP/1.1 404 Not Found\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 4\r\n\r\nmine"},
    {"GET /-/jobs/12-34", "HTTP/1.1 200 OK\r\nContent-Length: 52\r\n\r\n"
                          "{\"state\":\"failed\",\"service\":\"s\",\"status\":404      }\n"},
    {"DELETE /-/jobs/", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
};

struct server {
    pthread_t thread;
    int fd;
    char address[64];
};

static const char *answer_to(const char *request) {
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (strncmp(request, answers[i].begin, strlen(answers[i].begin)) == 0) return answers[i].answer;
    return "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
}

/* Each request comes in one piece that ends with its head, or with a body that ends with a dot. */
static void serve(int fd) {
    char request[4096];
    size_t n = 0;
    ssize_t more;
    while ((more = recv(fd, request + n, sizeof request - 1 - n, 0)) > 0) {
        n += (size_t)more;
        request[n] = '\0';
        bool whole =
            strstr(request, "\r\n\r\n") && (!strstr(request, "Content-Length") || request[n - 1] == '.');
        if (!whole) continue;
        const char *answer = answer_to(request);
        n = 0;
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) return;
    }
}

static void *run(void *arg) {
    struct server *s = arg;
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        serve(fd);
        close(fd);
    }
    return NULL;
}

static int start(void **state) {
    static struct server s;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    s.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s.fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(s.fd, 8), 0);
    assert_int_equal(getsockname(s.fd, (struct sockaddr *)&at, &size), 0);
    snprintf(s.address, sizeof s.address, "http://127.0.0.1:%u/", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&s.thread, NULL, run, &s), 0);
    *state = &s;
    return 0;
}

static int stop(void **state) {
    struct server *s = *state;
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    return close(s->fd);
}

/* ---- stories ---- */

static int topics(weir_client *c) {
    weir_message *m = NULL;
    int err = weir_client_subscribe(c, "T", "a/b");
    if (err == 0) err = weir_client_publish(c, "T", "text/plain", "a message.", 10);
    if (err == 0) err = weir_client_next(c, "T", "a", 1000, 500, &m);
    if (err != 0) return err;
    assert_int_equal(m->id, 7);
    assert_int_equal(m->published_ms, UINT64_C(1795255200250));
    assert_int_equal(m->delivery, 2);
    assert_string_equal(m->type, "a/b");
    assert_int_equal(m->size, 5);
    assert_string_equal(m->body, "abcde");
    weir_message_free(&m);
    assert_null(m);
    err = weir_client_next(c, "T", "none", 0, WEIR_ACK_AUTO, &m);
    assert_null(m);
    return err == WEIR_EAGAIN ? 0 : err;
}

static int leaving(weir_client *c) {
    int err = weir_client_acknowledge(c, "T", "a", 7);
    if (err == WEIR_ENOTFOUND) {
        assert_string_equal(weir_client_detail(c), "no such hat");
        err = weir_client_unsubscribe(c, "T", "a");
    }
    return err == WEIR_ENOTFOUND ? 0 : err;
}

static int submitting(weir_client *c) {
    static const weir_field fields[] = {{"Content-Type", "a/b"}, {"X-Mine", "1"}};
    weir_request r = {
        .target = "/s?x=1", .fields = fields, .field_count = 2, .body = ".", .size = 1, .delay_ms = 5};
    char id[WEIR_JOB_ID_SIZE] = "";
    int err = weir_client_submit(c, &r, id);
    assert_string_equal(id, err == 0 ? "12-34" : "");
    return err == 0 ? weir_client_cancel(c, id) : err;
}

static int state_of(weir_client *c) {
    weir_durable *job = NULL;
    int err = weir_client_state(c, "12-34", &job);
    if (err != 0) return err;
    assert_string_equal(job->state, "failed");
    assert_int_equal(job->ended, 1);
    assert_int_equal(job->status, 404);
    assert_null(job->reason);
    weir_durable_free(&job);
    assert_null(job);
    return 0;
}

static int result_of(weir_client *c) {
    weir_answer *a = NULL;
    int err = weir_client_result(c, "12-34", 1000, &a);
    if (err != 0) return err;
    assert_int_equal(a->status, 404);
    assert_string_equal(a->body, "mine");
    assert_string_equal(weir_answer_header(a, "X-b"), "2");
    assert_null(weir_answer_header(a, "X-c"));
    weir_answer_free(&a);
    assert_null(a);
    return 0;
}

static int with_client(const struct server *s, int (*story)(weir_client *c)) {
    weir_client *c = NULL;
    int err = weir_client_open(&(weir_client_options){.hub = s->address, .token = "secret"}, &c);
    if (err == 0) err = story(c);
    weir_client_free(&c);
    assert_null(c);
    return err;
}

static void fail_each(const struct server *s, int (*story)(weir_client *c), long least) {
    int err = WEIR_ENOMEM;
    for (long n = 1; err != 0; n++) {
        long live = fault_live();
        fault_fail_at(n);
        err = with_client(s, story);
        fault_fail_at(0);
        assert_int_equal(fault_live(), live);
        if (err == 0)
            assert_true(n > least);
        else
            assert_int_equal(err, WEIR_ENOMEM);
    }
}

static void out_of_memory(void **state) {
    fail_each(*state, topics, 20);
    fail_each(*state, leaving, 12);
    fail_each(*state, submitting, 12);
    fail_each(*state, state_of, 10);
    fail_each(*state, result_of, 15);
}

static void freeing_nothing(void **state) {
    weir_client *c = NULL;
    weir_message *m = NULL;
    (void)state;
    weir_client_free(&c);
    weir_client_free(NULL);
    weir_message_free(&m);
    weir_message_free(NULL);
    weir_durable_free(NULL);
    weir_answer_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(out_of_memory), cmocka_unit_test(freeing_nothing)};
    return cmocka_run_group_tests(tests, start, stop);
}
