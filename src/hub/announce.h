/* SPDX-License-Identifier: Apache-2.0 */
/* A hub makes itself known by UDP datagrams (docs/protocol.md "Discovery"). Loop thread only. */
#ifndef HUB_ANNOUNCE_H
#define HUB_ANNOUNCE_H

#include "attach/attach.h"

struct announcer;

/* Sends a beacon for each TCP listener for workers to an address ("192.0.2.255:8084") once a second,
   beginning now. 0, WEIR_ENOMEM, WEIR_EIO or WEIR_ECONFIG with *ret_why. */
int announce_start(struct io_loop *loop, const struct attach *attach, const char *address, const char *group,
                   struct announcer **ret, const char **ret_why);
/* Its memory goes as the loop runs on. NULL and *NULL are fine. */
void announce_stop(struct announcer **announcer);

#endif
