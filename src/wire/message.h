/* SPDX-License-Identifier: Apache-2.0 */
/* A request as a worker will get it: head and body with the arena they live in, reference-counted.
   One malloc for a small one. */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "wire/body.h"
#include "wire/head.h"

struct message {
    unsigned refs;
    struct arena arena;
    struct http_head head;
    struct body *body;     /* NULL: none. The message holds a reference. */
    unsigned char excused; /* losses that did not count as attempts */
};

/* NULL: out of memory. arena_limit: most bytes its arena may hold. */
struct message *message_new(size_t arena_limit);
struct message *message_ref(struct message *m);
void message_unref(struct message *m); /* NULL is fine */

/*
 * The request of the next hop (3-protocols "Weir-Forward"): method POST, target as given (p NULL: the
 * original's), the original's end-to-end fields without its content-* ones, the answer's content-*
 * fields and weir-key, weir-original-method, and body (takes over the caller's reference on success; NULL:
 * none, content-length 0). 0 and *ret; WEIR_ENOMEM; WEIR_EHEADTOOBIG: over 256 fields, or over the arena
 * limit that the original has.
 */
int message_forward(const struct message *original, struct slice target, const struct http_head *answer,
                    struct body *body, struct message **ret);

/*
 * The request of part number index of count (Weir-Scatter): method POST, the original's target and end-to-end
 * fields without its content-* ones, its own weir-part and those that the part brings itself, the part's
 * fields, weir-original-method, weir-part (INDEX/COUNT), and body. Returns as message_forward does.
 */
int message_part(const struct message *original, const struct http_head *part, size_t index, size_t count,
                 struct body *body, struct message **ret);

/* What a worker's answer asks for. */
enum answer_kind { ANSWER_REPLY, ANSWER_FORWARD, ANSWER_SCATTER };
struct answer {
    enum answer_kind kind;
    /* Of a forward: target.p NULL is the original's. Of a scatter: where the parts go; gather: who gets what
       comes of them, empty: the client. Borrowed from the head. */
    struct slice service, target, gather;
    uint64_t cost; /* of a forward (Weir-Cost); 0: not said */
};
/* Reads Weir-Forward, Weir-Scatter and Weir-Cost. WEIR_EBADANSWER when it does not parse (*ret_why says why).
 */
int answer_parse(const struct http_head *head, struct answer *ret, const char **ret_why);

#endif
