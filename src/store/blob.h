/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs: a file each, DIR/blobs/XX/XXXXXXXXXXXXXXXX (its id in hexadecimal digits, below its last two),
 * written in place. Which of them are wanted, the database says: all others are removed at start. Without a
 * directory they live in memory.
 *
 * Those that nothing refers to yet (loose ones) are known here by id, with their file while they are written.
 * Two threads: one calls blobs_new, _write, _close, _read, _drop, _reap; the other takes and releases
 * them within a transaction that it ends with blobs_commit or blobs_rollback.
 */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include "base/arena.h"

struct blobs;

/* dir: the store's; NULL: in memory. Ids begin behind last. The count and the bytes of those that are there.
 */
int blobs_open(const char *dir, uint64_t last, uint64_t count, uint64_t bytes, struct blobs **ret);
void blobs_free(struct blobs *b);
/* Removes the files that wanted (1, 0, or WEIR_E*) does not want. 0, or the first error. */
int blobs_clean(struct blobs *b, int (*wanted)(void *ctx, uint64_t id), void *ctx);
/* Any thread. */
void blobs_stats(struct blobs *b, uint64_t *ret_count, uint64_t *ret_bytes);

/* As the operations of store.h. */
int blobs_new(struct blobs *b, uint64_t *ret_id);
int blobs_write(struct blobs *b, uint64_t id, struct slice bytes);
int blobs_close(struct blobs *b, uint64_t id);
int blobs_read(struct blobs *b, uint64_t id, uint64_t after, uint64_t limit, struct arena *memory,
               struct slice *ret);
int blobs_drop(struct blobs *b, uint64_t id);
/* Removes the files of those whose release has been committed; whether there were any. */
bool blobs_reap(struct blobs *b);

/* A loose, closed one is to be referred to. WEIR_ENOTFOUND: there is none; WEIR_ESTATE: it is not closed. */
int blobs_take(struct blobs *b, uint64_t id, uint64_t *ret_size);
/* It was not needed after all. */
void blobs_give_back(struct blobs *b, uint64_t id);
/* Nothing refers to it any more. 0 or WEIR_ENOMEM. */
int blobs_release(struct blobs *b, uint64_t id, uint64_t size);
/* Whether there is something for blobs_reap. */
bool blobs_commit(struct blobs *b);
void blobs_rollback(struct blobs *b);

#endif
