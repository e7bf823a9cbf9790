/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the topics' API share. */
#ifndef EDGE_TOPICS_API_H
#define EDGE_TOPICS_API_H

#include "durable/topics.h"
#include "edge/api.h"

/* A GET of a subscription. Texts lie in the request's arena. */
struct topics_get {
    struct slice topic, name;
    bool acknowledges, stream;
    uint64_t wait_ms, lease_ms; /* lease_ms 0: the hub's */
    bool resumes;               /* a stream with Last-Event-ID */
    uint64_t after;
};

static inline struct topics *topics_of(const struct ask *a) {
    return a->conn->edge->config.topics;
}
/* Answers with an error; absent: what there is not, with WEIR_ENOTFOUND. */
void topics_refuse(struct ask *a, int err, const char *absent);

/* topics_stream.c: Accept: text/event-stream. */
void topics_stream(struct ask *a, const struct topics_get *get);

#endif
