/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a name, looked up on a thread of its own: a slow resolver must hold up nobody. */
#ifndef LIB_LOOKUP_H
#define LIB_LOOKUP_H

#include "io/stream.h"

struct lookup;

/* Begins; wake_fd, an eventfd (of which it keeps a duplicate), is written to when it is done. NULL: out of
   memory, threads or descriptors. Addresses that need no resolver are there at once. */
struct lookup *lookup_start(const struct io_address *a, int wake_fd);
bool lookup_done(const struct lookup *l);
/* Address number index; false past the last. Only when it is done. */
bool lookup_address(const struct lookup *l, unsigned index, struct sockaddr_storage *ret,
                    socklen_t *ret_size);
/* Lets go of it, done or not. NULL and *NULL are fine. */
void lookup_free(struct lookup **l);

#endif
