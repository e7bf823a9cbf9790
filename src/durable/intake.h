/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a body in, to be stored: small ones in memory, larger ones into a blob as they come, with the sender
 * being paused while the store writes. Loop thread.
 */
#ifndef DURABLE_INTAKE_H
#define DURABLE_INTAKE_H

#include "store/store.h"
#include "wire/body.h"

struct intake;

struct intake_config {
    struct store *store;
    uint32_t shard;
    uint64_t max_bytes; /* more is WEIR_ETOOBIG */
    bool hash;          /* intake_hash is wanted */
    /* Once, when it is all there (0), or with what went wrong: the body's error, the store's, WEIR_ETOOBIG or
       WEIR_ENOMEM. May be called from within intake_new. The intake may be freed in it. */
    void (*done)(void *ctx, int err);
    void *ctx;
};

/* Begins. Takes a reference on the body, which may be NULL: empty. 0 or WEIR_ENOMEM. */
int intake_new(const struct intake_config *config, struct body *body, struct intake **ret);
/* After done with 0: what was taken in. The bytes are the intake's; the blob, if it is one, is from now on
   the caller's to refer to or to drop. */
struct store_body intake_take(struct intake *in);
/* The same to look at: the intake keeps the blob. */
struct store_body intake_peek(const struct intake *in);
/* SHA-256 of all its bytes (FIPS 180-4), after done with 0, if it was wanted. */
void intake_hash(const struct intake *in, unsigned char ret[STORE_HASH]);
/* Any time, also in the middle: then the body is abandoned, and a blob that was not taken is dropped. NULL is
   fine. */
void intake_free(struct intake **in);

#endif
