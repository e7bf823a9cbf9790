/* SPDX-License-Identifier: Apache-2.0 */
/* Hubs that make themselves known (docs/protocol.md "Discovery"), as `weir work --discover` finds them. */
#ifndef CLI_DISCOVER_H
#define CLI_DISCOVER_H

#include "weir/weir.h"
#include <pthread.h>
#include <stdbool.h>

enum { DISCOVER_ADDRESS = 320 };

struct discover {
    const char *group;
    unsigned port;
    int fd;
    weir_worker *worker;
    pthread_t thread;
    int stop; /* atomic */
};

/* Begins to listen. 0 or WEIR_EIO (errno says why). */
int discover_open(struct discover *d);
/* The next hub that is heard, as "HOST:PORT"; waits up to ms (negative: for ever). False: none. */
bool discover_next(struct discover *d, int ms, char address[static DISCOVER_ADDRESS]);
/* From now on a thread adds to the worker what is heard, until discover_close. 0 or WEIR_ENOMEM. */
int discover_for(struct discover *d, weir_worker *worker);
void discover_close(struct discover *d);

#endif
