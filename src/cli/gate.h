/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates of `weir work`: jobs are taken only while the machine has room for them. CPUs that are idle, or busy
 * with our own jobs, are measured between two questions and smoothed; what the process's cgroup (v1 or v2)
 * may use is respected.
 */
#ifndef CLI_GATE_H
#define CLI_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct gate {
    double cpus;     /* idle ones that a job wants; 0: no matter */
    uint64_t memory; /* bytes that must be available; 0: no matter */
    /* since the last question */
    uint64_t idle_ticks, own_us, group_us, at_us;
    double ours; /* CPUs that are idle or used by this process and its children, smoothed */
    bool measured;
};

void gate_init(struct gate *g);
/* How many jobs there is room for: weir_worker_options.gate. */
unsigned gate_ask(void *gate, unsigned running);

#endif
