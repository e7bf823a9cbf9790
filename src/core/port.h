/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker as the hub reaches it: the small table that each kind of worker (reverse HTTP/2, reverse HTTP/1.1,
 * ZeroMQ) implements. The core only carries the pointer. What the worker says comes back as core_worker_...,
 * core_job_... and core_slot_free calls. Bodies need no entry here: the adapter reads the message's body as
 * the worker takes it, and is woken through it.
 */
#ifndef CORE_PORT_H
#define CORE_PORT_H

#include "core/core.h"

struct worker_port {
    const struct worker_port_ops *ops;
};

struct worker_port_ops {
    /* Gives it a job (a CORE_SEND). The adapter takes its own reference on the message. When it cannot, it
       says core_job_handed_back or core_job_lost, from within or later. */
    void (*send)(struct worker_port *p, const struct core_action *job);
    /* The job (a CORE_CANCEL) is no longer wanted: core_slot_free when the worker's side of it has ended. */
    void (*cancel)(struct worker_port *p, uint64_t job, enum core_cause cause);
};

#endif
