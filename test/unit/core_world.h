/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small world around one core, for stories. Requests are called A, B, ... in order of asking, workers 1,
 * 2, ...; what the core wants done is written into a trace:
 *
 *   A>1       request A was sent to worker 1      A>1*  again (resend)
 *   A!502     request A failed with that status   A?404 A was refused at once (asked for nothing else)
 *   A^        request A, which gathered, is over; its requester is not told
 *   A!504^    it failed while it gathered: its requester and its gatherer are told
 *   A/1:gone  worker 1 is to stop working on A    A~    the begun reply to A is cut
 *
 * Parts are requests too, and get the next letter. That a request has one end only is checked by the way.
 */
#ifndef TEST_UNIT_CORE_WORLD_H
#define TEST_UNIT_CORE_WORLD_H

#include "core/core.h"

enum { WORLD_REQUESTS = 26, WORLD_WORKERS = 9 };

struct world_message {
    bool in_core, unreplayable;
    const char *headers; /* "name=value;name=value", or NULL */
};

struct world_request {
    struct requester requester; /* first */
    struct gatherer gatherer;
    bool gathers, over;
    uint64_t id, job, worker; /* of the last SEND */
    struct failure failure;
    unsigned attempt, hop;
    uint64_t deadline; /* as the last SEND had it */
};

struct world {
    struct core *core;
    uint64_t now;
    struct world_request requests[WORLD_REQUESTS];
    unsigned request_count;
    uint64_t workers[WORLD_WORKERS + 1];
    unsigned worker_count;
    struct world_message messages[64];
    unsigned message_count;
    char sent; /* the last request that was sent */
    char trace[4096];
    char failed_service[300];
};

struct wish {
    const char *service, *method;
    const char *tenant, *headers; /* NULL: none */
    uint64_t cost;
    unsigned priority; /* 0: the default; 10: 0 */
    unsigned timeout_ms;
    size_t bytes;
    bool unreplayable;
};

struct core_config world_config(struct world *w);
/* config: changed by the story, or NULL. NULL: out of memory. */
struct world *world_new(const struct core_config *config);
/* With one service "a", that behaves as config says. */
struct world *world_serving(const struct core_service_config *config);
/* Checks that each message was released exactly once. */
void world_free(struct world *w);

/* All of the following let the core's actions happen, into the trace. */
int ask(struct world *w, struct wish wish);
int ask_for(struct world *w, const char *method, const char *service);
int join(struct world *w, const char *services, unsigned slots);
int join_with(struct world *w, const char *labels, const char *services, unsigned slots);
int relabel(struct world *w, unsigned worker, const char *labels);
void leave(struct world *w, unsigned worker);
void slots(struct world *w, unsigned worker, unsigned n);
/* Begins to answer; false: the core did not want it. */
bool answer(struct world *w, char request);
void done(struct world *w, char request);
void slot_free(struct world *w, char request);
/* All three. */
void finish(struct world *w, char request);
void lose(struct world *w, char request);
void hand_back(struct world *w, char request);
int forward(struct world *w, char request, const char *service);
int forward_at(struct world *w, char request, const char *service, uint64_t cost);
/* Into so many parts, which are to follow; frees the slot. */
int scatter(struct world *w, char request, unsigned count);
/* A part of a request that gathers. */
int part(struct world *w, char request, const char *service);
int gather_forward(struct world *w, char request, const char *service);
/* false: too late. */
bool gather_reply(struct world *w, char request);
void gather_fail(struct world *w, char request, int error);
void give_up(struct world *w, char request);
void pass(struct world *w, uint64_t ms);
void act(struct world *w);

/* The trace since the last call is exactly this, items separated by single spaces. */
#define says(w, expected) world_says(w, expected, __FILE__, __LINE__)
void world_says(struct world *w, const char *expected, const char *file, int line);

/* The service behaves as config says; NULL: as by default. */
void define(struct world *w, const char *service, const struct core_service_config *config);
/* Cancels all that is left, and checks that nothing remains; then as world_free. */
void world_end(struct world *w);

struct core_stats world_stats(const struct world *w);
struct core_service_view world_service(const struct world *w, const char *name);
/* "": all who have none of their own. false: there is no such tenant now. */
bool world_tenant(const struct world *w, const char *name, struct core_tenant_view *ret);

#endif
