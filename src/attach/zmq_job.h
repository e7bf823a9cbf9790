/* SPDX-License-Identifier: Apache-2.0 */
/* What zmq.c (workers) and zmq_job.c (their jobs) share. */
#ifndef ATTACH_ZMQ_JOB_H
#define ATTACH_ZMQ_JOB_H

#include "attach/zmq.h"
#include "core/port.h"
#include "io/zrouter.h"
#include "wire/w1.h"

enum { ZPEER_MAGIC = 0x7a706565 };

struct zworkers {
    struct attach *attach;
    struct zrouter *router;
    void *by_routing; /* tsearch(3) */
    struct list peers;
    struct list sending;   /* jobs that have request body to send */
    struct buffer scratch; /* a head; a body */
    bool some_lost;        /* peers that wait to be buried */
};

/* A worker. */
struct zpeer {
    struct slice routing; /* first: the key of by_routing */
    unsigned magic;
    struct worker_port port;
    struct zworkers *zworkers;
    struct list node;
    struct list jobs; /* oldest first */
    uint64_t worker;
    unsigned credit, running, pings_missed;
    unsigned errors; /* told in this second */
    uint64_t errors_second;
    int connection; /* -1: inproc */
    bool leaving, ended, lost;
    char name[W1_ID_MAX + 1];
    char room[]; /* of routing */
};

static inline uint64_t zpeer_now(const struct zpeer *p) {
    return io_now_us(p->zworkers->attach->config.loop);
}
/* 0 or a WEIR_E* as zrouter_send. Unless it was BODY, the worker is lost then. */
int zpeer_say(struct zpeer *p, enum w1_kind kind, const struct slice *more, unsigned n);
void zpeer_grant(struct zpeer *p, uint64_t n);
void zpeer_count_slots(struct zpeer *p);

extern const struct worker_port_ops zjob_port_ops;
/* A message about a job. Returns NULL, or what is wrong with it. */
const char *zjob_heard(struct zpeer *p, const struct w1 *m);
/* The worker is gone: its jobs follow the retry rule. */
void zjobs_lose(struct zpeer *p);
/* Sends what has gathered in request bodies. */
void zjobs_turn(struct zworkers *z);
/* Tries again where a worker's queue was full. */
void zjobs_retry_bodies(struct zworkers *z);

#endif
