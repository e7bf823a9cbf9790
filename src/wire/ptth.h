/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attach handshake of reverse HTTP (draft-kazuho-ptth-ptth; docs/protocol.md "Reverse HTTP"):
 * GET /.well-known/ptth/{origin}/ with Upgrade: ptth, and its 101. Used by both ends.
 */
#ifndef WIRE_PTTH_H
#define WIRE_PTTH_H

#include "base/buffer.h"
#include "wire/head.h"

enum ptth_protocol { PTTH_HTTP11, PTTH_H2 };

struct ptth_offer {
    enum ptth_protocol protocol;        /* from ALPN; HTTP/1.1 when absent */
    struct slice services;              /* "a,b": Weir-Service, else the origin's host, percent-decoded */
    struct slice worker, labels, token; /* p NULL when absent */
};

/* Reads a worker's upgrade request. Text is borrowed from head or copied into the arena.
   WEIR_ENOTFOUND: another path. WEIR_ENOTALLOWED: not GET. WEIR_EMALFORMED: no Upgrade: ptth, a bad
   origin, a bad service name, an ALPN that we do not speak. *ret_why as in http1_request. */
int ptth_parse(const struct http_head *head, struct arena *a, struct ptth_offer *ret, const char **ret_why);
/* Appends the worker's side. services: "a,b"; worker, labels, token may be empty. */
int ptth_write_request(struct buffer *out, enum ptth_protocol protocol, struct slice host,
                       struct slice services, struct slice worker, struct slice labels, struct slice token);
/* Appends the 101. */
int ptth_write_accept(struct buffer *out);

#endif
