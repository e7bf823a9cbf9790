/* SPDX-License-Identifier: Apache-2.0 */
/* The trivial upstream behind the peers: keep-alive HTTP/1.1 on epoll, "hello" to whatever one read brings.
   hello_server unix:PATH | PORT: listens, and prints "ready PORT".
   hello_server unix:PATH | PORT N: dials a hub N times instead, as a worker of hello by reverse HTTP/1.1. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

static const char upgrade[] = "GET /.well-known/ptth/http%3A%2F%2Fhello/ HTTP/1.1\r\nHost: hub\r\n"
                              "Connection: Upgrade\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n"
                              "Weir-Worker: hello\r\n\r\n";

/* use: bind or connect. */
static int open_socket(const char *where, int (*use)(int, const struct sockaddr *, socklen_t)) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int is_unix = strncmp(where, "unix:", 5) == 0, one = 1;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (is_unix)
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", where + 5);
    else
        in.sin_port = htons((unsigned short)strtoul(where, NULL, 10));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int err =
        is_unix ? use(fd, (struct sockaddr *)&un, sizeof(un)) : use(fd, (struct sockaddr *)&in, sizeof(in));
    return err == 0 ? fd : -1;
}

static int open_listener(const char *where) {
    int fd = open_socket(where, bind);
    struct sockaddr_in in = {0};
    socklen_t n = sizeof(in);
    if (fd < 0 || listen(fd, 1024) != 0 || getsockname(fd, (struct sockaddr *)&in, &n) != 0) return -1;
    if (strncmp(where, "unix:", 5) == 0 && chmod(where + 5, 0777) != 0) return -1;
    printf("ready %d\n", in.sin_family == AF_INET ? ntohs(in.sin_port) : 0);
    fflush(stdout);
    return fd;
}

/* A connection whose roles are reversed. */
static int dial(const char *where) {
    char accepted[1024];
    size_t n = 0;
    int fd = open_socket(where, connect);
    if (fd < 0 || write(fd, upgrade, sizeof(upgrade) - 1) <= 0) return -1;
    while (n < sizeof(accepted) - 1 && read(fd, accepted + n, 1) == 1) {
        accepted[++n] = 0;
        if (n >= 4 && strcmp(accepted + n - 4, "\r\n\r\n") == 0)
            return strncmp(accepted, "HTTP/1.1 101", 12) == 0 ? fd : -1;
    }
    return -1;
}

int main(int argc, char **argv) {
    int listener = argc == 2 ? open_listener(argv[1]) : -1, poll = epoll_create1(0), one = 1;
    if (listener < 0 && argc != 3) return 1;
    struct epoll_event add = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (listener >= 0) epoll_ctl(poll, EPOLL_CTL_ADD, listener, &add);
    for (long left = argc == 3 ? strtol(argv[2], NULL, 10) : 0; left > 0; left--) {
        if ((add.data.fd = dial(argv[1])) < 0) return 1;
        epoll_ctl(poll, EPOLL_CTL_ADD, add.data.fd, &add);
    }
    char bytes[65536];
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                add.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(add.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                epoll_ctl(poll, EPOLL_CTL_ADD, add.data.fd, &add);
            } else if (read(fd, bytes, sizeof(bytes)) <= 0 || write(fd, answer, sizeof(answer) - 1) <= 0) {
                close(fd);
            }
        }
    }
}
