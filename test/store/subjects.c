/* SPDX-License-Identifier: Apache-2.0 */
/* The stores that the suite can drive. */
#include "store/sqlite.h"
#include "world.h"
#include <stdlib.h>

/* ---- a second model ---- */

static struct store *model_open(struct world *w) {
    struct store *s = w->kept ? w->kept : model_new_mutant(w->mutation);
    w->kept = NULL;
    return s;
}

static void model_stop(struct world *w) {
    w->kept = w->store[REAL];
    w->store[REAL] = NULL;
}

static void model_close(struct world *w) {
    store_turn(w->store[REAL]);
    model_crash(w->store[REAL], NULL, NULL);
    model_stop(w);
}

static bool toss(const struct store_op *op, void *ctx) {
    (void)op;
    return random_below(ctx, 2) == 0;
}

static void model_die(struct world *w) {
    model_crash(w->store[REAL], toss, &w->random);
    model_stop(w);
}

const struct subject subject_model = {
    .name = "model", .open = model_open, .close = model_close, .crash = model_die, .persists = true};

/* ---- SQLite ---- */

static void wake(void *ctx) {
    struct world *w = ctx;
    sem_post(&w->wake);
}

static struct store *open_sqlite(struct world *w, const char *dir) {
    const struct store_sqlite_config config = {
        .dir = dir, .wake = wake, .ctx = w, .unsafe_ack = w->unsafe_ack};
    struct store *store = NULL;
    char *text = NULL;
    int r = store_sqlite_open(&config, &store, &text);
    if (r == 0) return store;
    world_fail(w, "it does not open: %s (%s)", weir_strerror(r), text ? text : "no text");
    free(text);
    return NULL;
}

static struct store *memory_open(struct world *w) {
    return open_sqlite(w, NULL);
}

static struct store *sqlite_open(struct world *w) {
    return open_sqlite(w, w->dir);
}

static void sqlite_stop(struct world *w) {
    store_close(&w->store[REAL]);
}

const struct subject subject_memory = {.name = "memory", .open = memory_open, .close = sqlite_stop};
const struct subject subject_sqlite = {
    .name = "sqlite", .open = sqlite_open, .close = sqlite_stop, .persists = true};
