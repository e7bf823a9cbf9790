/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asked, as those who answer see it. The edge implements it for HTTP clients; RPC clients, durable
 * jobs and gathered parts are further requesters. The core only carries the pointer.
 * Exactly one of reply and fail is called per request, once; none after the requester has cancelled.
 */
#ifndef CORE_REQUESTER_H
#define CORE_REQUESTER_H

#include "base/slice.h"

struct http_head;
struct body;
struct message;
struct requester;

struct failure {
    int error;              /* WEIR_E*; its status is in the error table */
    unsigned status;        /* instead of the table's, when not 0 */
    unsigned retry_after_s; /* 0: unknown */
    struct slice service;
    const char *detail; /* may be NULL */
};

/* Where a request goes on. */
struct requester_hop {
    struct slice service;
    struct message *message; /* a reference is handed over */
    uint64_t cost;           /* 0: as before */
    bool scatter; /* the message is multipart, and each part is for service; what is gathered goes to
                     gather, or is the reply when that is empty */
    struct slice gather;
};

struct requester_part {
    unsigned index, status;
    struct slice fields, body; /* fields: lines, each ended by CRLF */
};

struct requester_ops {
    /* A worker has taken the request; may be called again after a retry. (Time for 100 Continue.) */
    void (*taken)(struct requester *r);
    /* The reply: the head is borrowed for the call; body (NULL: none) is borrowed, take a reference
       to read it. A body that is aborted later means that the reply is cut. */
    void (*reply)(struct requester *r, const struct http_head *head, struct body *body);
    void (*fail)(struct requester *r, const struct failure *why);
    /* Only of durable jobs (core_job_hand_over), instead of reply or fail: it goes on like this. */
    void (*forward)(struct requester *r, const struct requester_hop *hop);
    /* Only of durable jobs, before reply, fail or forward: one of its parts has answered. */
    void (*part)(struct requester *r, const struct requester_part *part);
    /* What its worker says of how far it is (Weir-Progress); any number of times before the reply. NULL: not
       of interest. */
    void (*progress)(struct requester *r, struct slice text);
};

struct requester {
    const struct requester_ops *ops;
};

/* Who gathers what became of a request's parts (core_job_scatter). */
struct gatherer {
    /* The request has ended before: its parts are cancelled, and none of their requesters will hear of it. */
    void (*gone)(struct gatherer *g);
};

#endif
