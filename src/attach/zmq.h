/* SPDX-License-Identifier: Apache-2.0 */
/* Workers by ZeroMQ: see zmq.c. Loop thread only. */
#ifndef ATTACH_ZMQ_H
#define ATTACH_ZMQ_H

#include "attach/link.h"

/* secret: CURVE key as Z85 text, NULL: none. 0 or a WEIR_E* as zrouter_open. */
int zworkers_open(struct attach *a, const char *secret, struct zworkers **ret);
/* As zrouter_bind and zrouter_endpoint. */
int zworkers_bind(struct zworkers *z, const char *endpoint, const char **ret_text);
const char *zworkers_endpoint(const struct zworkers *z, size_t index);
void *zworkers_context(const struct zworkers *z);
/* Sends what has gathered in request bodies, and buries the lost; once per loop turn. As attach_turn. */
bool zworkers_turn(struct zworkers *z);
/* Once per heartbeat interval. */
void zworkers_heartbeat(struct zworkers *z);
/* Tells the workers that the hub drains. */
void zworkers_drain(struct zworkers *z);
/* Loses all workers; the socket's memory goes as the loop runs on. */
void zworkers_close(struct zworkers **z);

#endif
