/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backends behind the peers: N listeners at PREFIX0, PREFIX1, ... (unix sockets), with a thread each that
 * serves one request at a time and sleeps as long as it says (/nap?us=1234). All others wait in the sockets,
 * in the order in which they came: one event at a time is taken off epoll's list. Prints "ready". tail_server
 * PREFIX N
 *
 * Or the same threads as workers of a hub, a connection of reverse HTTP/1.1 each. tail_server --dial
 * unix:PATH N
 */
#include "nap.h"
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nrested";

static int open_listener(const char *path) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || listen(fd, 65535) != 0) return -1;
    return chmod(path, 0777) == 0 ? fd : -1;
}

static const char upgrade[] = "GET /.well-known/ptth/http%3A%2F%2Fnap/ HTTP/1.1\r\nHost: hub\r\n"
                              "Connection: Upgrade\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n"
                              "Weir-Worker: nap\r\n\r\n";

static int dial(const char *where) {
    char accepted[1024] = "";
    size_t n = 0;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", where + strlen("unix:"));
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) return -1;
    if (write(fd, upgrade, sizeof(upgrade) - 1) < 0) return -1;
    while (n < sizeof(accepted) - 1 && read(fd, accepted + n, 1) == 1)
        if (++n >= 4 && memcmp(accepted + n - 4, "\r\n\r\n", 4) == 0) break;
    return strncmp(accepted, "HTTP/1.1 101", 12) == 0 ? fd : -1;
}

/* A request is small, has no body, and comes in one piece. */
static bool serve(int fd) {
    char text[8192];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = 0;
    const char *us = strstr(text, "us=");
    if (us && n >= 4 && strcmp(text + n - 4, "\r\n\r\n") == 0) {
        nap_for(strtoll(us + 3, NULL, 10) * 1000);
        if (write(fd, answer, sizeof(answer) - 1) == sizeof(answer) - 1) return true;
    }
    close(fd);
    return false;
}

static void *worker(void *arg) {
    while (serve(*(int *)arg)) continue;
    return NULL;
}

static void *backend(void *arg) {
    int listener = *(int *)arg, poll = epoll_create1(0);
    struct epoll_event add = {.events = EPOLLIN, .data.fd = listener}, event;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &add);
    for (;;) {
        if (epoll_wait(poll, &event, 1, -1) != 1) continue;
        if (event.data.fd != listener) {
            serve(event.data.fd);
            continue;
        }
        while ((add.data.fd = accept4(listener, NULL, NULL, 0)) >= 0)
            epoll_ctl(poll, EPOLL_CTL_ADD, add.data.fd, &add);
    }
    return NULL;
}

int main(int argc, char **argv) {
    bool dials = argc == 4 && strcmp(argv[1], "--dial") == 0;
    int n = argc == 3 || dials ? atoi(argv[argc - 1]) : 0, signal;
    int *fds = calloc((size_t)n + 1, sizeof(*fds));
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    for (int i = 0; i < n; i++) {
        char path[108];
        pthread_t thread;
        snprintf(path, sizeof(path), "%s%d", argv[1], i);
        if ((fds[i] = dials ? dial(argv[2]) : open_listener(path)) < 0) return 1;
        if (pthread_create(&thread, NULL, dials ? worker : backend, &fds[i]) != 0) return 1;
    }
    printf("ready\n");
    fflush(stdout);
    sigwait(&term, &signal);
    print_naps_ratio();
    return n > 0 ? 0 : 2;
}
