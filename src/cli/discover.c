/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/discover.h"
#include "base/clock.h"
#include "wire/beacon.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int discover_open(struct discover *d) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)d->port)};
    int one = 1;
    d->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->fd < 0 || setsockopt(d->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(d->fd, (struct sockaddr *)&any, sizeof(any)) != 0)
        return WEIR_EIO;
    return 0;
}

/* Reads one datagram: anybody may have sent it. */
static bool read_beacon(struct discover *d, char address[static DISCOVER_ADDRESS]) {
    char text[BEACON_MAX + 1], host[INET_ADDRSTRLEN];
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    struct beacon b;
    ssize_t n = recvfrom(d->fd, text, sizeof(text), 0, (struct sockaddr *)&from, &size);
    if (n <= 0 || !beacon_parse((struct slice){text, (size_t)n}, &b)) return false;
    if (!slice_eq(b.group, slice_of(d->group))) return false;
    struct slice at = b.host;
    if (slice_eq(at, SLICE("*"))) at = slice_of(inet_ntop(AF_INET, &from.sin_addr, host, sizeof(host)));
    snprintf(address, DISCOVER_ADDRESS, "%.*s:%u", SLICE_ARG(at), b.port);
    return true;
}

bool discover_next(struct discover *d, int ms, char address[static DISCOVER_ADDRESS]) {
    uint64_t end = clock_mono_ms() + (uint64_t)(ms > 0 ? ms : 0);
    for (;;) {
        uint64_t now = clock_mono_ms();
        if (ms >= 0 && now > end) return false;
        struct pollfd fd = {.fd = d->fd, .events = POLLIN};
        if (poll(&fd, 1, ms < 0 ? -1 : (int)(end - now)) > 0 && read_beacon(d, address)) return true;
        if (ms >= 0 && now == end) return false;
    }
}

static void *listen_on(void *arg) {
    struct discover *d = arg;
    char address[DISCOVER_ADDRESS];
    while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE))
        if (discover_next(d, 200, address)) (void)weir_worker_add_hub(d->worker, address);
    return NULL;
}

int discover_for(struct discover *d, weir_worker *worker) {
    sigset_t all, before; /* signals are the worker's */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    d->worker = worker;
    int err = pthread_create(&d->thread, NULL, listen_on, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0) d->worker = NULL;
    return err == 0 ? 0 : WEIR_ENOMEM;
}

void discover_close(struct discover *d) {
    __atomic_store_n(&d->stop, 1, __ATOMIC_RELEASE);
    if (d->worker) pthread_join(d->thread, NULL);
    if (d->fd >= 0) close(d->fd);
    d->worker = NULL;
    d->fd = -1;
}
