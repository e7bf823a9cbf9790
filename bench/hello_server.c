/* SPDX-License-Identifier: Apache-2.0 */
/* The trivial upstream behind the peers: keep-alive HTTP/1.1 on epoll, "hello" to whatever one read brings.
   hello_server unix:PATH | PORT. Prints "ready PORT" once it listens. */
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

static int open_listener(const char *where) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int is_unix = strncmp(where, "unix:", 5) == 0;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (is_unix) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", where + 5);
        if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || chmod(un.sun_path, 0777) != 0) return -1;
    } else {
        in.sin_port = htons((unsigned short)strtoul(where, NULL, 10));
        if (bind(fd, (struct sockaddr *)&in, sizeof(in)) != 0) return -1;
        socklen_t n = sizeof(in);
        getsockname(fd, (struct sockaddr *)&in, &n);
    }
    if (listen(fd, 1024) != 0) return -1;
    printf("ready %d\n", is_unix ? 0 : ntohs(in.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    int listener = argc == 2 ? open_listener(argv[1]) : -1, poll = epoll_create1(0), one = 1;
    if (listener < 0) return 1;
    struct epoll_event add = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &add);
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
