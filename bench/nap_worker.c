/* SPDX-License-Identifier: Apache-2.0 */
/* A worker of nap by reverse HTTP/1.1: a thread and a connection for each slot, which sleeps 1 ms for each
   job. At its end (SIGTERM) it prints how long a nap was on average. nap_worker unix:PATH SLOTS */
#include "nap.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nrested";
static const char upgrade[] = "GET /.well-known/ptth/http%3A%2F%2Fnap/ HTTP/1.1\r\nHost: hub\r\n"
                              "Connection: Upgrade\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n"
                              "Weir-Worker: nap\r\n\r\n";

/* Reads a head to its end: what comes here has no body. */
static int read_head(int fd, char *text, size_t size) {
    size_t n = 0;
    while (n < size - 1) {
        ssize_t got = read(fd, text + n, size - 1 - n);
        if (got <= 0) return -1;
        n += (size_t)got;
        text[n] = 0;
        if (n >= 4 && strcmp(text + n - 4, "\r\n\r\n") == 0) return 0;
    }
    return -1;
}

static void *slot(void *arg) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", (const char *)arg + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char text[65536];
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || write(fd, upgrade, sizeof(upgrade) - 1) < 0)
        exit(1);
    if (read_head(fd, text, sizeof(text)) != 0 || strncmp(text, "HTTP/1.1 101", 12) != 0) exit(1);
    while (read_head(fd, text, sizeof(text)) == 0) {
        take_a_nap();
        if (write(fd, answer, sizeof(answer) - 1) < 0) break;
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3 || strncmp(argv[1], "unix:", 5) != 0) {
        fprintf(stderr, "usage: nap_worker unix:PATH SLOTS\n");
        return 2;
    }
    sigset_t term;
    int signal;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    for (long left = strtol(argv[2], NULL, 10); left > 0; left--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, slot, argv[1]) != 0) return 1;
    }
    sigwait(&term, &signal);
    print_naps();
    return 0;
}
