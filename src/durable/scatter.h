/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scattered hop of a durable job. The hop is stored whole, as one multipart body; so is the answer of each
 * part as it comes. Running it means reading both, and giving the parts that are left to whoever gathers
 * (jobs_config.scatter).
 */
#ifndef DURABLE_SCATTER_H
#define DURABLE_SCATTER_H

#include "durable/held.h"

struct scatter;

/* Reads what is stored of the held job's hop. Then calls held_scatter_read, once, not from within. 0;
   WEIR_EFULL: others are being read; WEIR_ENOMEM. */
int scatter_new(struct held *h, struct scatter **ret);
/* Any time. NULL is fine. */
void scatter_free(struct scatter **s);
/* After held_scatter_read with 0: what was read. */
struct buffer *scatter_body(struct scatter *s);
const struct store_part *scatter_parts(const struct scatter *s, size_t *ret_count);

/* A part has answered: the store is told. What it has no room for is run again after a crash. */
void scatter_part(struct held *h, const struct requester_part *part);

/* held.c */
void held_scatter_read(struct held *h, int err);

#endif
