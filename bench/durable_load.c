/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for job queues that keep their jobs: connections that each submit a job, wait until it is
 * acknowledged, and submit the next; or that work such jobs off.
 *
 *   durable_load weir|beanstalkd|gearmand PORT CONNECTIONS SECONDS    prints: accepted failed p50_us p99_us
 * max_us durable_load beanstalkd-worker|gearmand-worker PORT CONNECTIONS COUNTER until SIGTERM; COUNTER is a
 * file of 8 bytes that holds how many it has finished durable_load publish PORT CONNECTIONS SECONDS the same
 * with messages to /-/topics/t
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MOST = 4096, BODY = 100, IN_MOST = 4096, LATENCIES_MOST = 8 << 20 };

struct conn {
    int fd;
    size_t have;
    uint64_t sent_ns;
    char in[IN_MOST];
};

struct protocol {
    const char *name;
    char request[512];
    size_t size;
    /* How long the first whole answer in p is; 0: not whole; *ok: is it the acknowledgement? */
    size_t (*answer)(const char *p, size_t n, int *ok);
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *p, size_t n) {
    while (n > 0) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done <= 0) die("send");
        p += done;
        n -= (size_t)done;
    }
}

/* ---- protocols ---- */

static size_t http_answer(const char *p, size_t n, int *ok) {
    const char *end = memmem(p, n, "\r\n\r\n", 4), *length = memmem(p, n, "content-length: ", 16);
    if (!end) return 0;
    size_t whole = (size_t)(end - p) + 4 + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
    *ok = memcmp(p + 9, "20", 2) == 0;
    return whole <= n ? whole : 0;
}

static size_t line_answer(const char *p, size_t n, int *ok) {
    const char *end = memmem(p, n, "\r\n", 2);
    *ok = n > 8 && memcmp(p, "INSERTED", 8) == 0;
    return end ? (size_t)(end - p) + 2 : 0;
}

static size_t packet(char *to, unsigned type, const char *body, size_t n) {
    uint32_t fields[2] = {htonl(type), htonl((uint32_t)n)};
    memcpy(to, "\0REQ", 4);
    memcpy(to + 4, fields, 8);
    memcpy(to + 12, body, n);
    return 12 + n;
}

/* Size of the packet at p, or 0. */
static size_t packet_size(const char *p, size_t n, unsigned *type) {
    uint32_t fields[2];
    if (n < 12) return 0;
    memcpy(fields, p + 4, 8);
    *type = ntohl(fields[0]);
    size_t whole = 12 + ntohl(fields[1]);
    return whole <= n ? whole : 0;
}

static size_t gearman_answer(const char *p, size_t n, int *ok) {
    unsigned type = 0;
    size_t whole = packet_size(p, n, &type);
    *ok = type == 8; /* JOB_CREATED */
    return whole;
}

static size_t http_request(char *to, size_t size, const char *target, const char *more) {
    return (size_t)snprintf(to, size, "POST %s HTTP/1.1\r\nHost: bench\r\n%sContent-Length: %d\r\n\r\n%0*d",
                            target, more, BODY, BODY, 7);
}

static void make(struct protocol *p, const char *name) {
    char body[BODY + 64];
    *p = (struct protocol){.name = name};
    if (strcmp(name, "weir") == 0) {
        p->size = http_request(p->request, sizeof p->request, "/hello", "Prefer: respond-async\r\n");
        p->answer = http_answer;
    } else if (strcmp(name, "publish") == 0) {
        p->size = http_request(p->request, sizeof p->request, "/-/topics/t", "");
        p->answer = http_answer;
    } else if (strcmp(name, "beanstalkd") == 0) {
        p->size =
            (size_t)snprintf(p->request, sizeof p->request, "put 1024 0 60 %d\r\n%0*d\r\n", BODY, BODY, 7);
        p->answer = line_answer;
    } else if (strcmp(name, "gearmand") == 0) {
        size_t n = (size_t)snprintf(body, sizeof body, "hello%c%c%0*d", 0, 0, BODY, 7);
        p->size = packet(p->request, 18, body, n); /* SUBMIT_JOB_BG */
        p->answer = gearman_answer;
    } else {
        fprintf(stderr, "unknown protocol %s\n", name);
        exit(2);
    }
}

/* ---- connections ---- */

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static struct conn *dial_all(int port, int n, int set) {
    struct conn *all = calloc((size_t)n, sizeof *all);
    if (!all) die("calloc");
    for (int i = 0; i < n; i++) {
        all[i].fd = dial(port);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(set, EPOLL_CTL_ADD, all[i].fd, &e) != 0) die("epoll_ctl");
    }
    return all;
}

/* False: the peer has closed. */
static int fill(struct conn *c) {
    ssize_t n = recv(c->fd, c->in + c->have, IN_MOST - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) return 0;
    c->have += (size_t)n;
    return 1;
}

static void drop(struct conn *c, size_t n) {
    memmove(c->in, c->in + n, c->have - n);
    c->have -= n;
}

/* ---- submitting ---- */

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int submit(const char *name, int port, int connections, double seconds) {
    struct protocol p;
    int set = epoll_create1(0);
    uint32_t *took_us = malloc(LATENCIES_MOST * sizeof *took_us);
    uint64_t accepted = 0, failed = 0, waiting = 0, kept = 0;
    make(&p, name);
    struct conn *all = dial_all(port, connections, set);
    if (!took_us) die("malloc");
    uint64_t until = now_ns() + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++, waiting++) {
        all[i].sent_ns = now_ns();
        send_all(all[i].fd, p.request, p.size);
    }
    while (waiting > 0) {
        struct epoll_event events[256];
        int n = epoll_wait(set, events, 256, 10000), ok = 0;
        if (n == 0) die("no answer within 10 s");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            size_t size;
            if (!fill(c)) die("the server has closed");
            if ((size = p.answer(c->in, c->have, &ok)) == 0) continue;
            drop(c, size);
            uint64_t now = now_ns();
            ok ? accepted++ : failed++;
            if (kept < LATENCIES_MOST) took_us[kept++] = (uint32_t)((now - c->sent_ns) / 1000);
            if (now >= until) {
                waiting--;
                continue;
            }
            c->sent_ns = now;
            send_all(c->fd, p.request, p.size);
        }
    }
    qsort(took_us, kept, sizeof *took_us, by_value);
    printf("%llu %llu %u %u %u\n", (unsigned long long)accepted, (unsigned long long)failed,
           took_us[kept / 2], took_us[kept * 99 / 100], took_us[kept - 1]);
    return 0;
}

/* ---- working ---- */

static volatile sig_atomic_t stopped;

static void on_term(int number) {
    (void)number;
    stopped = 1;
}

/* Acts on one whole message; returns how long it was, 0: not whole. */
static size_t beanstalk_work(struct conn *c, volatile uint64_t *finished) {
    const char *end = memmem(c->in, c->have, "\r\n", 2);
    unsigned long long id = 0;
    size_t size = 0;
    char text[64];
    if (!end) return 0;
    size_t line = (size_t)(end - c->in) + 2;
    if (memcmp(c->in, "DELETED", 7) == 0) {
        ++*finished;
        return line;
    }
    if (sscanf(c->in, "RESERVED %llu %zu", &id, &size) != 2) return line;
    if (c->have < line + size + 2) return 0;
    send_all(c->fd, text, (size_t)snprintf(text, sizeof text, "delete %llu\r\nreserve\r\n", id));
    return line + size + 2;
}

static void gearman_say(struct conn *c, unsigned type, const char *body, size_t n) {
    char out[256];
    send_all(c->fd, out, packet(out, type, body, n));
}

static size_t gearman_work(struct conn *c, volatile uint64_t *finished) {
    unsigned type = 0;
    size_t whole = packet_size(c->in, c->have, &type);
    char done[256];
    if (whole == 0) return 0;
    if (type == 11) { /* JOB_ASSIGN: handle, function, data */
        size_t handle = strlen(c->in + 12) + 1;
        memcpy(done, c->in + 12, handle);
        memcpy(done + handle, "hello", 5);
        gearman_say(c, 13, done, handle + 5); /* WORK_COMPLETE */
        gearman_say(c, 9, "", 0);             /* GRAB_JOB */
        ++*finished;
    } else if (type == 10) {      /* NO_JOB */
        gearman_say(c, 4, "", 0); /* PRE_SLEEP */
    } else if (type == 6) {       /* NOOP: wake up */
        gearman_say(c, 9, "", 0);
    }
    return whole;
}

static int work(const char *name, int port, int connections, const char *counter) {
    int set = epoll_create1(0), fd = open(counter, O_RDWR | O_CREAT, 0600);
    int beanstalk = strcmp(name, "beanstalkd-worker") == 0;
    if (fd < 0 || ftruncate(fd, 8) != 0) die(counter);
    volatile uint64_t *finished = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (finished == MAP_FAILED) die("mmap");
    struct sigaction stop = {.sa_handler = on_term};
    sigaction(SIGTERM, &stop, NULL);
    struct conn *all = dial_all(port, connections, set);
    for (int i = 0; i < connections; i++) {
        if (beanstalk) {
            send_all(all[i].fd, "reserve\r\n", 9);
            continue;
        }
        gearman_say(&all[i], 1, "hello", 5); /* CAN_DO */
        gearman_say(&all[i], 9, "", 0);
    }
    while (!stopped) {
        struct epoll_event events[64];
        int n = epoll_wait(set, events, 64, 1000);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            size_t size;
            if (!fill(c)) return 1;
            while ((size = beanstalk ? beanstalk_work(c, finished) : gearman_work(c, finished)) > 0)
                drop(c, size);
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: durable_load weir|publish|beanstalkd|gearmand PORT CONNECTIONS SECONDS\n"
                        "       durable_load beanstalkd-worker|gearmand-worker PORT CONNECTIONS COUNTER\n");
        return 2;
    }
    int port = atoi(argv[2]), connections = atoi(argv[3]);
    if (connections < 1 || connections > CONNECTIONS_MOST) return 2;
    if (strstr(argv[1], "-worker")) return work(argv[1], port, connections, argv[4]);
    return submit(argv[1], port, connections, atof(argv[4]));
}
