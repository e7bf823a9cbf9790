/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of one machine: a directory with an SQLite database and a file for each blob.
 *
 *   DIR/lock      held for as long as the store is open; says who has it
 *   DIR/weir.db   jobs, topics, configuration (and weir.db-wal, weir.db-shm while it is open)
 *   DIR/blobs     blobs
 *
 * The database may be read with any tool at any time; see the views jobs and subscriptions.
 */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include "store/store.h"

struct store_sqlite_config {
    const char *dir;         /* made when it is missing. NULL: in memory, gone with the process */
    void (*wake)(void *ctx); /* any thread: call store_turn soon */
    void *ctx;
    uint64_t max_bytes; /* of database and blobs; 0: no limit. Over it, what adds is WEIR_ENOSPACE; what ends,
                           moves on or drops still works */
    bool unsafe_ack;    /* for tests of tests alone: operations complete before they are durable */
};

/* 0; or WEIR_ESTATE: another process has it, or a newer version has made it; WEIR_ECORRUPT: it is damaged, or
   something else's (it is left as it is); WEIR_ENOSPACE, WEIR_EIO, WEIR_ENOMEM. *ret_text then says what is
   wrong, where, and what to do: for people, the caller frees it; NULL when there is no memory for it. */
int store_sqlite_open(const struct store_sqlite_config *config, struct store **ret, char **ret_text);

#endif
