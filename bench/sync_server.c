/* SPDX-License-Identifier: Apache-2.0 */
/* The least that a durable answer takes: HTTP/1.1 on epoll, 202 to whatever one read brings, once another
   thread has written and synced a commit for all that came while it synced the one before. sync_server PORT
   FILE BYTES: listens, and prints "ready PORT". BYTES of a commit go over old ones of FILE. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILE_BYTES = 16 << 20, MOST = 4096 };

static const char answer[] = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

struct batch {
    int fds[MOST], count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct batch waiting, synced; /* with lock */
static int file, event;
static size_t bytes;

static void move(struct batch *to, struct batch *from) {
    memcpy(to->fds + to->count, from->fds, (size_t)from->count * sizeof(int));
    to->count += from->count;
    from->count = 0;
}

static void *commit(void *arg) {
    static char page[1 << 20];
    static struct batch own;
    uint64_t one = 1;
    (void)arg;
    memset(page, 7, sizeof page);
    pthread_mutex_lock(&lock);
    for (off_t at = 0;; at = at + 2 * (off_t)bytes > FILE_BYTES ? 0 : at + (off_t)bytes) {
        while (!waiting.count) pthread_cond_wait(&wake, &lock);
        move(&own, &waiting);
        pthread_mutex_unlock(&lock);
        if (pwrite(file, page, bytes, at) != (ssize_t)bytes || fdatasync(file) != 0) exit(1);
        pthread_mutex_lock(&lock);
        move(&synced, &own);
        if (write(event, &one, sizeof one) < 0) exit(1);
    }
    return NULL;
}

static int lay_out(const char *path) {
    static char zeros[FILE_BYTES];
    file = open(path, O_RDWR | O_CREAT, 0600);
    return file >= 0 && write(file, zeros, sizeof zeros) == sizeof zeros && fsync(file) == 0 ? 0 : -1;
}

static int open_listener(const char *port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    in.sin_port = htons((unsigned short)strtoul(port, NULL, 10));
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, n) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&in, &n))
        return -1;
    printf("ready %d\n", ntohs(in.sin_port));
    fflush(stdout);
    return fd;
}

static void add(int poll, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
}

static void answer_all(void) {
    static struct batch done;
    uint64_t n;
    if (read(event, &n, sizeof n) < 0) return;
    pthread_mutex_lock(&lock);
    move(&done, &synced);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < done.count; i++)
        if (write(done.fds[i], answer, sizeof answer - 1) <= 0) close(done.fds[i]);
    done.count = 0;
}

int main(int argc, char **argv) {
    if (argc != 4 || (bytes = strtoul(argv[3], NULL, 10)) == 0 || bytes > 1 << 20 || lay_out(argv[2]) != 0)
        return 1;
    int listener = open_listener(argv[1]), poll = epoll_create1(0), one = 1;
    pthread_t thread;
    event = eventfd(0, 0);
    if (listener < 0 || pthread_create(&thread, NULL, commit, NULL) != 0) return 1;
    add(poll, listener);
    add(poll, event);
    for (struct epoll_event events[256];;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            char request[65536];
            if (fd == event) {
                answer_all();
            } else if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                add(poll, fd);
            } else if (read(fd, request, sizeof request) <= 0) {
                close(fd);
            } else { /* a connection has one request at a time: there is room */
                pthread_mutex_lock(&lock);
                waiting.fds[waiting.count++] = fd;
                pthread_mutex_unlock(&lock);
                pthread_cond_signal(&wake);
            }
        }
    }
}
