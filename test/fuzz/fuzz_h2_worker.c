/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker may send after its upgrade: HTTP/2 frames of any kind, over a socket pair. */
#include "fuzz.h"
#include "world.h"
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 12 };

static void turn(struct world *w, int fd) {
    char sink[65536];
    world_turn(w);
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char upgrade[] =
        "GET /.well-known/ptth/http%3A%2F%2Fs/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
        "Upgrade: ptth\r\nALPN: h2\r\n\r\n";
    if (size > 65536) return 0;
    struct world w;
    world_open(&w);
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(attach_adopt(w.attach, pair[1]) == 0);
    (void)!write(pair[0], upgrade, sizeof(upgrade) - 1);
    turn(&w, pair[0]);
    size_t half = size ? data[0] % size : 0; /* split where the input says, so that frames come in pieces */
    (void)!write(pair[0], data, half);
    turn(&w, pair[0]);
    (void)!write(pair[0], data + half, size - half);
    for (int i = 0; i < ROUNDS; i++) {
        if (i == ROUNDS / 2) world_cancel(&w, 0);
        turn(&w, pair[0]);
    }
    close(pair[0]);
    turn(&w, pair[0]);
    world_close(&w);
    return 0;
}
