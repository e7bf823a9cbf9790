/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's parts and its threads. Three threads work, each on its own queue (lane):
 *
 * - The writer does everything that changes the database, and what reads single things: all that waits in
 *   one transaction (sqlite_batch.c).
 * - The reader lists jobs, on a connection of its own, and copies the log into the database (checkpoints).
 * - The blobs' reads and writes blobs, and removes those that are no longer wanted.
 *
 * lock guards what they share. Completed operations wait in done for the owner's store_turn.
 */
#ifndef STORE_SQLITE_STORE_H
#define STORE_SQLITE_STORE_H

#include "store/sqlite.h"
#include "store/sqlite_work.h"
#include <pthread.h>

enum lane_name { LANE_WRITER, LANE_READER, LANE_BLOBS, LANES };

struct lane {
    struct list ops;
    size_t urgent; /* of them: not lazy */
    pthread_cond_t wake;
    pthread_t thread;
    bool runs;
};

struct sqlite_store {
    struct store base; /* first */
    struct store_sqlite_config config;
    char *path; /* of the database; NULL: in memory */
    int lock_fd;
    struct work writer, reader; /* of the thread of that name */
    struct blobs *blobs;
    uint64_t page_size;
    uint64_t wal_pages,
        restart_at; /* the writer's: the log's length, and from where on it does something about it */

    pthread_mutex_t lock;
    /* ---- with lock ---- */
    struct lane lanes[LANES];
    struct list done;
    bool stopping;               /* the threads end when they have nothing left to do */
    uint64_t submitted, written; /* operations on the writer's lane, and those that are through */
    uint64_t used;               /* bytes of the database without its free pages */
    struct store_stats stats;    /* of what is committed; without blobs */
    uint64_t copied;             /* pages of the log that are in the database */
    bool checkpoint;             /* is wanted */
    bool reap;                   /* there may be files to remove */
};

/* Hands back what has been done. Empties ops. */
void sqlite_complete(struct sqlite_store *s, struct list *ops);
/* Would this many bytes more be over the limit? */
bool sqlite_is_full(struct sqlite_store *s, uint64_t more);
/* The writer's: what the database has come to, within a transaction or without. used: without free pages. */
int sqlite_measure(struct sqlite_store *s, uint64_t *ret_bytes, uint64_t *ret_used);

/* sqlite_batch.c: what the three threads do with what they have taken. Hand it all back. */
void batch_run(struct sqlite_store *s, struct list *ops);
/* Bytes that it may add to the database. */
uint64_t batch_weight(const struct store_op *op);

#endif
