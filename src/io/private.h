/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of io share among themselves. */
#ifndef IO_PRIVATE_H
#define IO_PRIVATE_H

#include "io/stream.h"

enum { IO_LINGER_MS = 1000, IO_ROUNDS = 32, IO_LOOK_US = 50, IO_HOT_US = 50 };

/* Writes what has been gathered, as far as the kernel takes it. */
void stream_write_out(struct stream *s);

void io_sockaddr_text(const struct sockaddr *sa, char *text, size_t size);

#endif
