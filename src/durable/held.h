/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of durable jobs share: lines (jobs.c) and the jobs that are held of them (held.c). */
#ifndef DURABLE_HELD_H
#define DURABLE_HELD_H

#include "base/buffer.h"
#include "base/wheel.h"
#include "durable/intake.h"
#include "durable/jobs.h"

enum { HELD_MAGIC = 0x68656c64, HELD_TABLE = 4096, LINES_TABLE = 1024, WATCH_TABLE = 1024 };

/* Jobs that go in order: of one service, tenant and priority. */
struct line {
    struct list node; /* in its place of the table */
    struct jobs *jobs;
    struct list hungry; /* in jobs->hungry: it may take more */
    struct store_op op; /* leases more of it */
    bool busy;          /* the operation is under way, or its results are not all taken up */
    bool stuck;         /* the latter: memory lacked */
    bool waiting;       /* there may be more in the store */
    bool again;         /* something was put there after the operation began */
    size_t at;          /* of the operation's results: how many have been taken up */
    size_t held, begun,
        coming;       /* begun: of the held ones, with a worker; coming: leased by a put under way */
    size_t users;     /* others who point at it */
    unsigned refused; /* the last pass in which the core had no room for one of it */
    unsigned priority;
    struct slice service, tenant;
    char names[];
};

enum held_phase {
    HELD_WAITING,   /* to be given to the core */
    HELD_QUEUED,    /* in the core, or a scattered hop is being read */
    HELD_RUNNING,   /* at a worker */
    HELD_ANSWERING, /* its answer, or its next hop, comes in */
    HELD_STORING    /* the store is told what came of it */
};

struct held {
    struct requester requester;
    unsigned magic;
    struct jobs *jobs;
    struct line *line;
    struct list table, waiting;
    struct wheel_timer timer; /* of the attempt, or to tell the store again */
    enum held_phase phase;
    uint64_t request; /* in the core; 0: it is not there */
    uint64_t started_ms;
    uint64_t not_before_ms; /* a scattered hop for which there was no memory is read again then */
    struct arena texts;     /* of job */
    struct store_job job;   /* as the store has it */
    struct arena next_texts;
    struct store_job next; /* the next hop, when it has one */
    struct line *next_line;
    struct store_op op;       /* finish, step or release */
    bool begun;               /* a worker has had this hop: it counts in line->begun */
    bool busy;                /* it is under way */
    bool lost;                /* it is not this hub's any more: goes as soon as it can */
    struct scatter *scatter;  /* what is stored of a scattered hop, until it is given to the core */
    struct body *given;       /* the stored body that its worker is given, as it is read; a reference */
    struct intake *intake;    /* of the answer's body, or of the next hop's */
    struct message *going;    /* the next hop's message, while its body comes in */
    struct buffer head, body; /* of the answer that is told the store */
    unsigned status;          /* of the worker's answer */
    uint64_t retry_after_ms;
    struct buffer progress;
};

struct jobs {
    struct jobs_config config;
    struct jobs_stats stats;
    struct list held[HELD_TABLE], lines[LINES_TABLE], watches[WATCH_TABLE];
    struct list waiting; /* held, to be given to the core */
    struct list hungry;  /* lines */
    unsigned leasing;    /* of them: how many are being given more */
    struct list revived; /* operations that have completed, and memory lacked for their lines */
    unsigned pass;       /* of giving to the core what waits */
    unsigned scatters;   /* scattered hops that are being read */
    unsigned under_way;  /* jobs that are coming in, and answers of parts, on their way to the store */
    uint64_t held_bytes; /* of the bodies of all held ones */
    struct wheel wheel;  /* of held ones */
    struct wheel watch_wheel;
    struct store_op load, due;
    bool loading, unloaded; /* what a hub before has left is being loaded, could not be loaded */
    bool due_busy, due_stuck, draining;
    size_t due_at;
    uint64_t due_ms;   /* when the next delayed one is to run; UINT64_MAX: there is none */
    uint64_t retry_ms; /* when what waits is given to the core (again); UINT64_MAX: nothing waits */
    uint64_t lack_ms; /* when what memory or the store was not there for is done again; UINT64_MAX: nothing */
    uint64_t last_id_ms;
    unsigned last_id_serial;
};

/* jobs.c */
/* The line of that name, made when missing. NULL: out of memory. */
struct line *jobs_line(struct jobs *j, struct slice service, struct slice tenant, unsigned priority);
/* There is more of it in the store. */
void jobs_line_waits(struct line *l);
/* One is held no more, or from now on. The last may free the line. */
void jobs_line_count(struct line *l, int more);
/* The memory that its body takes. */
static inline uint64_t held_size(const struct held *h) {
    return h->job.message.body.bytes.n;
}
/* One of its held ones has begun, or waits again. */
void jobs_line_begun(struct line *l, int more);
/* One that waits is given to the core soon. */
void jobs_retry(struct jobs *j);
/* It stays while it is used. */
void jobs_line_use(struct line *l, bool use);
/* A job is to run then. */
void jobs_due(struct jobs *j, uint64_t run_at);
/* It has ended, and the store knows: tells who waits for it. ended: when, for its callback; 0: it has none.
 */
void jobs_ended(struct jobs *j, struct store_id id, enum store_job_state state, uint64_t ended);
struct held *jobs_held(const struct jobs *j, struct store_id id);
/* Does somebody wait for its end? */
bool jobs_watched(const struct jobs *j, struct store_id id);

/* held.c */
/* A job that is leased to this hub, copied. NULL: out of memory. In no table yet. */
struct held *held_new(struct jobs *j, const struct store_job *job);
/* It is the hub's from now on, and is given to the core when it can be. */
void held_enter(struct held *h);
void held_free(struct held *h);
/* Gives it to the core, or says why it must wait: WEIR_EFULL, WEIR_EDRAINING, WEIR_ENOMEM. */
int held_submit(struct held *h);
/* Its timer has rung. */
void held_timer(struct held *h);
/* It is no longer this hub's: what runs is cancelled. Frees it, now or when the store is done with it. */
void held_lose(struct held *h, enum core_cause cause);
/* The hub drains: unless a worker has it, it goes; the store has it. */
void held_drain(struct held *h);

#endif
