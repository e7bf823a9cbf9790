/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, and its operations as calls that wait for their end. */
#ifndef SQLITE_WORLD_H
#define SQLITE_WORLD_H

#include "store/sqlite.h"
#include <pthread.h>
#include <sys/types.h>

struct world {
    char dir[64];
    struct store_sqlite_config config;
    struct store *store;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool wake;
};

struct call {
    struct store_op op;
    bool done;
};

void world_init(struct world *w);
int try_open(struct world *w, char **ret_text);
void world_open(struct world *w);
void world_fini(struct world *w);
/* Until the next one. */
const char *file_in(const struct world *w, const char *name);
/* Waits for a wake-up (10 s at most) and takes what is done. */
void world_turn(struct world *w);
/* A call: begun, filled in, run (or submitted and awaited); then store_op_fini. */
void begin(struct call *c, enum store_kind kind);
void await(struct world *w, const struct call *c);
int run(struct world *w, struct call *c);
/* Jobs of one line (primes, t, 4), with small numbers for names. */
struct store_id id_of(uint64_t n);
void begin_put(struct call *c, uint64_t n, bool lease, const char *body);
int put(struct world *w, uint64_t n, bool lease);
void begin_finish(struct call *c, uint64_t n, uint64_t fence, enum store_job_state state);
int finish(struct world *w, uint64_t n, uint64_t fence, enum store_job_state state);
/* The job's state; or the error. */
int state_of(struct world *w, uint64_t n);
void begin_lease(struct call *c, size_t limit);
size_t lease(struct world *w, size_t limit);
int topic_op(struct world *w, struct call *c, enum store_kind kind, const char *topic, const char *name);
int subscribe(struct world *w, const char *topic, const char *name);
int unsubscribe(struct world *w, const char *topic, const char *name);
uint64_t append(struct world *w, const char *topic, const char *body);
int ack(struct world *w, const char *topic, const char *name, uint64_t message_id, bool up_to,
        uint64_t *ret_position);
/* The bodies that a subscription has yet to read, joined by commas. */
void check_unread(struct world *w, const char *topic, const char *name, const char *want);
struct store_stats stats(struct world *w);
uint64_t new_blob(struct world *w, const char *bytes);
int blob_op(struct world *w, enum store_kind kind, uint64_t blob);
/* How many there are. */
unsigned blob_files(const struct world *w);
/* Overwrites a part of the database with nonsense. */
void damage(const struct world *w, off_t at, size_t size);

#endif
