/* SPDX-License-Identifier: Apache-2.0 */
/* The datagram by which a hub makes itself known (docs/protocol.md "Discovery"). Pure. */
#ifndef WIRE_BEACON_H
#define WIRE_BEACON_H

#include "base/slice.h"

enum { BEACON_MAX = 255, BEACON_PORT = 8084 }; /* bytes; where beacons go unless told otherwise */

struct beacon {
    struct slice group; /* hubs and workers of one installation */
    struct slice host;  /* where workers come; "*": the datagram's sender */
    unsigned port;
};

/* Writes it and returns its length; 0: it does not fit, or is no beacon. */
size_t beacon_write(const struct beacon *b, char text[static BEACON_MAX + 1]);
/* Reads what has come, from anybody. Slices are borrowed. */
bool beacon_parse(struct slice datagram, struct beacon *ret);

#endif
