/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What targets for workers' protocols share: the real attach code and a core that has a few requests.
 * Whatever a worker sends: no crash, each request is told its end at most once, and nothing is left when all
 * is over.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include "attach/attach.h"
#include "core/port.h"
#include "wire/message.h"
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum { WORLD_REQUESTS = 4 };

/* One request. 1 is a POST with a whole body, 3 one with a body that is still coming, the others are GETs. */
struct asker {
    struct requester requester;
    struct body *body;    /* of its reply */
    struct body *request; /* of 3 */
    uint64_t id;          /* 0: it has ended */
    int told;
};

struct world {
    struct io_loop loop;
    struct log log;
    struct core *core;
    struct attach *attach;
    struct asker askers[WORLD_REQUESTS];
    int messages; /* that the core holds */
};

void world_open(struct world *w);
/* One turn of the loop, and what the core has decided in it. */
void world_turn(struct world *w);
void world_cancel(struct world *w, unsigned asker);
/* Ends everything and checks that nothing is left. */
void world_close(struct world *w);

#endif
