/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One hub: puts core, edge and attach together on one loop, and takes it from start to drain. Everything
 * happens on the thread that calls hub_run, but hub_stop and hub_connect.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include "hub/config.h"
#include "weir/weir.h"

struct hub;

/* Binds the listeners. The config is borrowed for the hub's life. 0 or a WEIR_E*; then *ret_text (when not
   NULL) says what is wrong, to be freed by the caller (NULL when memory ran out). */
int hub_new(const struct config *config, struct hub **ret, char **ret_text);
/* Serves until hub_stop, then drains; returns 0. */
int hub_run(struct hub *h);
/* First call: drain. Second: end at once. Any thread, and signal handlers. */
void hub_stop(struct hub *h);
/* "listen", "workers", "zmq" or "admin": the address that the (first) listener is bound to; NULL: there is
 * none. */
const char *hub_address(const struct hub *h, const char *listener);
/* Before hub_run: who chooses among workers that are free (weir_hub_choose). NULL: nobody. */
void hub_choose(struct hub *h, weir_choose *choose, void *arg);
/* Of the ZeroMQ endpoints; NULL: there are none. */
void *hub_zmq_context(const struct hub *h);
/* One end of a new socket pair whose other end the hub treats as a worker's connection. Any thread. 0,
 * WEIR_EIO. */
int hub_connect(struct hub *h, int *ret_fd);
/* NULL and *NULL are fine. */
void hub_free(struct hub **h);

#endif
