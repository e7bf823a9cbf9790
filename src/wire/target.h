/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a request target in origin-form (RFC 9112 3.2.1). No I/O, no state. */
#ifndef WIRE_TARGET_H
#define WIRE_TARGET_H

#include "base/arena.h"

/* What stands before the first '?', as sent. */
struct slice target_path(struct slice target);
/* What stands behind it, as sent; p NULL: there is none. */
struct slice target_query(struct slice target);
/* The value of the first parameter of a query with exactly this name, both as sent; empty when it has none; p
   NULL: there is no such parameter. */
struct slice query_raw(struct slice query, struct slice name);
/* The same with both percent-decoded and '+' as space, as a copy in the arena with a NUL behind it. p NULL:
   none, or it cannot be decoded, or out of memory. */
struct slice query_value(struct slice query, struct slice name, struct arena *a);
/* The path's segment of that number, from 1 on, as sent; p NULL: it has no so many. */
struct slice path_segment(struct slice path, uint64_t number);

#endif
