/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload: reads a body of any size piece by piece, in constant memory, and tells its size and its CRC-32.
 * While the worker is busy with a piece, flow control holds the client back.
 *
 *   weir hub --max-body 10GiB &
 *   upload &
 *   curl -T big.iso http://127.0.0.1:8080/upload
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { PIECE = 64 * 1024 };

/* CRC-32 as in gzip and zip (ISO 3309), four bits at a time. Begin with 0. */
static uint32_t crc32_add(uint32_t crc, const unsigned char *p, size_t size) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

static int upload(weir_job *job, void *arg) {
    (void)arg;
    unsigned char piece[PIECE];
    uint64_t total = 0;
    uint32_t crc = 0;
    ptrdiff_t n;
    while ((n = weir_job_body_read(job, piece, sizeof(piece))) > 0) {
        crc = crc32_add(crc, piece, (size_t)n);
        total += (uint64_t)n;
    }
    if (n < 0) return (int)n; /* the rest will not come */
    return weir_reply_printf(job, 200, "application/json",
                             "{\"bytes\": %" PRIu64 ", \"crc32\": \"%08" PRIx32 "\"}\n", total, crc);
}

int main(int argc, char **argv) {
    weir_worker_options options = {.hub = getenv("WEIR_HUB"), .slots = 4};
    if (argc == 3 && strcmp(argv[1], "--hub") == 0) {
        options.hub = argv[2];
    } else if (argc != 1) {
        fprintf(stderr, "usage: upload [--hub ADDR]\n");
        return 2;
    }
    weir_worker *worker = NULL;
    int err = weir_worker_open(&options, &worker);
    if (err == 0) err = weir_worker_offer(worker, "upload", upload, NULL);
    if (err == 0) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    if (err != 0) fprintf(stderr, "upload: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
