/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open loop with times and costs that were drawn beforehand. Each request is sent when it is due, on a
 * connection that is free or a new one, whatever has become of those before; its time counts from when it was
 * due.
 *
 * PLAN: a `struct planned` for each request, by time. RESULT: a `struct outcome` for each. "quiet" is printed
 * when all have been sent and no more than QUIET are out, or after 2 s of that: what is left hardly needs the
 * machine. With a TENANT, requests say X-Tenant. tail_load PORT PLAN RESULT QUIET [TENANT]
 *
 * Or nothing is between it and the workers, QUIET of them, that listen at PREFIX0, PREFIX1, ...: it keeps the
 * queue itself, and sends a request when it is due and a worker is free. tail_load PREFIX PLAN RESULT QUIET
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_FIRST = 256, CONNECTIONS_MAX = 60000, ROOM = 2048, EVENTS = 256 };
#define MS INT64_C(1000000)
#define S (1000 * MS)
#define GIVE_UP (180 * S)
#define QUIET_AFTER (2 * S)

struct planned {
    int64_t due_ns;
    uint64_t us;
};

struct outcome {
    int64_t took_ns, late_ns;
    int64_t status; /* 0: no answer */
};

struct conn {
    int fd;
    uint32_t number, at; /* the request that is out */
    uint32_t size;
    bool busy;
    char text[ROOM];
};

struct load {
    struct sockaddr_in to;
    const char *prefix; /* of the workers' sockets; NULL: a hub is between */
    int64_t freed_ns;   /* when a worker was free again, at last */
    const struct planned *plan;
    struct outcome *results;
    uint32_t count, next, out;
    int poll;
    uint32_t quiet;
    bool told;
    char tenant[64]; /* a field, or nothing */
    struct conn **conns, **idle;
    uint32_t conn_count, idle_count;
    int64_t began,
        early; /* how late a wait ends, smoothed: it is made shorter by that, and the rest is spun */
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * S + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void conn_open(struct load *l, struct conn *c) {
    int one = 1;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr *to = (struct sockaddr *)&l->to;
    if (l->prefix) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s%u", l->prefix, c->number);
        to = (struct sockaddr *)&un;
    }
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, to, l->prefix ? sizeof(un) : sizeof(l->to)) != 0) die("connect");
    if (!l->prefix) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event add = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(l->poll, EPOLL_CTL_ADD, c->fd, &add);
}

static struct conn *conn_new(struct load *l) {
    struct conn *c = l->conn_count < CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (!c) die("too many connections");
    c->number = l->conn_count;
    l->conns[l->conn_count++] = c;
    conn_open(l, c);
    return c;
}

static void request_send(struct load *l, int64_t now) {
    char text[256];
    const struct planned *p = &l->plan[l->next];
    struct conn *c = l->idle_count ? l->idle[--l->idle_count] : conn_new(l);
    if (c->fd < 0) conn_open(l, c);
    c->at = l->next++;
    c->busy = true;
    c->size = 0;
    l->out++;
    int64_t due = l->began + p->due_ns;
    l->results[c->at].late_ns = now - (due > l->freed_ns ? due : l->freed_ns);
    int n =
        snprintf(text, sizeof(text), "GET /nap?us=%llu HTTP/1.1\r\nHost: nap\r\nWeir-Cost: %llu\r\n%s\r\n",
                 (unsigned long long)p->us, (unsigned long long)((p->us + 999) / 1000), l->tenant);
    if (write(c->fd, text, (size_t)n) != n) die("write");
}

static void answered(struct load *l, struct conn *c, int64_t status, bool keep) {
    struct outcome *o = &l->results[c->at];
    if (c->busy) {
        o->took_ns = now_ns() - l->began - l->plan[c->at].due_ns;
        o->status = status;
        c->busy = false;
        l->out--;
        l->idle[l->idle_count++] = c;
        if (l->prefix) l->freed_ns = now_ns();
    }
    if (keep) return;
    close(c->fd);
    c->fd = -1;
}

/* Answers are small, with a length: what has another form counts as none. */
static void on_readable(struct load *l, struct conn *c) {
    if (c->fd < 0) return;
    ssize_t n = read(c->fd, c->text + c->size, ROOM - 1 - c->size);
    if (n <= 0) {
        answered(l, c, 0, false);
        return;
    }
    c->size += (uint32_t)n;
    c->text[c->size] = 0;
    const char *end = strstr(c->text, "\r\n\r\n"), *length = strcasestr(c->text, "\r\ncontent-length:");
    if (end && length && length < end) {
        size_t whole = (size_t)(end + 4 - c->text) + strtoul(length + 17, NULL, 10);
        if (c->size < whole && c->size < ROOM - 1) return;
        bool closing = strcasestr(c->text, "\r\nconnection: close") != NULL;
        answered(l, c, strtol(c->text + 9, NULL, 10), !closing && c->size == whole);
    } else if (end || c->size == ROOM - 1) {
        answered(l, c, 0, false);
    }
}

/* Waits for answers until then; the last part of the way by looking. */
static void wait_until(struct load *l, int64_t then, int64_t now) {
    struct epoll_event events[EVENTS];
    int64_t left = then - l->early - now;
    struct timespec timeout = {.tv_sec = left > 0 ? left / S : 0, .tv_nsec = left > 0 ? left % S : 0};
    int n = epoll_pwait2(l->poll, events, EVENTS, &timeout, NULL);
    if (n == 0 && left > 0) {
        l->early += (now_ns() - now - left - l->early) / 16;
        if (l->early > MS / 4) l->early = MS / 4;
    }
    for (int i = 0; i < n; i++) on_readable(l, events[i].data.ptr);
}

static void tell_quiet(struct load *l, int64_t now) {
    int64_t last = l->began + l->plan[l->count - 1].due_ns;
    if (l->told || (l->out > l->quiet && now < last + QUIET_AFTER)) return;
    printf("quiet\n");
    fflush(stdout);
    l->told = true;
}

static bool may_send(const struct load *l) {
    return l->next < l->count && (!l->prefix || l->idle_count > 0);
}

static void run(struct load *l) {
    int64_t give_up = l->plan[l->count - 1].due_ns + GIVE_UP;
    l->began = now_ns() + 50 * MS;
    for (;;) {
        int64_t now = now_ns();
        while (may_send(l) && l->began + l->plan[l->next].due_ns <= now) {
            request_send(l, now);
            now = now_ns();
        }
        bool sent = l->next == l->count;
        if (sent) tell_quiet(l, now);
        if (sent && (l->out == 0 || now - l->began > give_up)) break;
        wait_until(l, may_send(l) ? l->began + l->plan[l->next].due_ns : now + MS * 100, now);
    }
}

static void *read_file(const char *path, size_t *ret_size) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) die(path);
    *ret_size = (size_t)ftell(f);
    rewind(f);
    void *bytes = malloc(*ret_size + 1);
    if (!bytes || fread(bytes, 1, *ret_size, f) != *ret_size) die(path);
    fclose(f);
    return bytes;
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: tail_load PORT|PREFIX PLAN RESULT QUIET [TENANT]\n");
        return 2;
    }
    struct load l = {.poll = epoll_create1(EPOLL_CLOEXEC), .quiet = (uint32_t)strtoul(argv[4], NULL, 10)};
    size_t size;
    if (argc == 6) snprintf(l.tenant, sizeof(l.tenant), "X-Tenant: %.40s\r\n", argv[5]);
    l.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    l.to.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
    if (argv[1][0] == '/') l.prefix = argv[1];
    l.plan = read_file(argv[2], &size);
    l.count = (uint32_t)(size / sizeof(*l.plan));
    l.results = calloc(l.count + 1, sizeof(*l.results));
    l.conns = calloc(CONNECTIONS_MAX, sizeof(struct conn *));
    l.idle = calloc(CONNECTIONS_MAX, sizeof(struct conn *));
    if (l.count == 0 || !l.results || !l.conns || !l.idle) return 1;
    prctl(PR_SET_TIMERSLACK, 1);
    uint32_t first = l.prefix ? l.quiet : CONNECTIONS_FIRST;
    for (uint32_t i = 0; i < first; i++) l.idle[l.idle_count++] = conn_new(&l);
    run(&l);
    FILE *f = fopen(argv[3], "wb");
    if (!f || fwrite(l.results, sizeof(*l.results), l.count, f) != l.count || fclose(f) != 0) die(argv[3]);
    printf("%u connections\n", l.conn_count);
    return 0;
}
