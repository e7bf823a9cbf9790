/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libweir's worker files share: worker.c (API, options), pool.c (threads), uplink.c (one hub: connect,
 * upgrade, reconnect), session.c (HTTP/2), job.c (a job's request), reply.c (its answer).
 *
 * Threads. slots + 1 equal threads share one lock and take turns at being the leader, who waits for the
 * sockets. What the leader has read it handles itself, without waking anybody, as long as handlers are quick;
 * see pool.c. Everything below belongs to the lock, except what a job's handler alone touches while it runs.
 */
#ifndef LIB_WORKER_H
#define LIB_WORKER_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/list.h"
#include "io/stream.h"
#include "lib/lookup.h"
#include "weir/weir.h"
#include "wire/head.h"
#include <nghttp2/nghttp2.h>
#include <pthread.h>

enum {
    WORKER_MAGIC = 0x776f726b,
    WORKER_WINDOW = 256 * 1024,   /* bytes of a body on their way, either direction */
    WORKER_HEAD_MAX = 256 * 1024, /* bytes of a job's head and what is built with it */
    WORKER_PING_MS = 1000,
    WORKER_PINGS_MISSED = 3,
    WORKER_SLOTS_MAX = 4096
};

struct service {
    char *name;
    weir_handler *handler;
    void *arg;
    uint64_t run_us; /* moving average of its run time */
    unsigned runs;
};

enum uplink_state {
    UPLINK_WAITING,
    UPLINK_RESOLVING,
    UPLINK_CONNECTING,
    UPLINK_UPGRADING,
    UPLINK_OPEN,
    UPLINK_CLOSED
};

/* The connection to one hub. */
struct uplink {
    struct weir_worker *worker;
    struct io_address address;
    char *name;
    enum uplink_state state;
    int fd; /* -1: none */
    nghttp2_session *session;
    struct buffer in; /* of the upgrade's answer */
    size_t scanned;
    struct buffer out;
    struct list jobs;       /* that have a stream here */
    unsigned announced;     /* MAX_CONCURRENT_STREAMS as last sent */
    struct lookup *lookup;  /* while dialling */
    unsigned address_index; /* of its addresses: which to dial next */
    unsigned unsent;        /* answers since the last write */
    unsigned pings_missed, failures;
    uint64_t due_ms; /* next ping, or next try */
    bool given;      /* the fd came from the caller: no reconnect */
    bool broken, going_away;
};

struct weir_worker {
    unsigned magic;
    struct service *services;
    size_t service_count;
    char *id, *labels, *token;
    unsigned max_slots, slots, drain_ms;
    size_t max_body;
    void (*log)(void *arg, const char *line);
    void *log_arg;
    unsigned (*gate)(void *arg, unsigned running);
    void *gate_arg;
    unsigned gate_ms;
    struct redirects *redirects; /* NULL: none */

    pthread_mutex_t lock;
    pthread_cond_t followers, guard;
    struct uplink *links;
    size_t link_count;
    struct list ready; /* jobs to run */
    unsigned ready_count;
    unsigned waiting; /* followers */
    unsigned busy;    /* jobs accepted whose handler has not returned */
    unsigned streams; /* jobs that have a stream */
    unsigned zombies; /* handlers that run on after their stream was reset */
    bool leading, polling, guarded, guard_parked, guard_called, quit, draining;
    bool hot;          /* the last wait was short; only the leader's */
    unsigned activity; /* changes with each job run: tells the guard that something goes on */
    uint64_t drain_until_ms;
    unsigned gate_limit; /* most jobs at once that the gate allows */
    uint64_t gate_due_ms;
    uint64_t random;
    int wake_fd, signal_fd;
    int stops; /* atomic */
};

struct weir_job {
    struct list ready, link_node;
    struct weir_worker *worker;
    struct uplink *link; /* NULL: its stream is closed */
    struct service *service;
    int32_t stream;
    int cancelled;             /* atomic */
    int event_fd;              /* of weir_job_fd; -1: not asked for */
    struct redirect *redirect; /* its body is fetched from the worker */
    bool has_stream, handled, zombie;
    bool body_ended, body_cut, end_told;
    pthread_cond_t changed;
    struct arena arena;
    struct http_head head;
    struct buffer body;     /* received, not yet read */
    struct buffer gathered; /* by weir_job_body */
    uint64_t began_ms;
    /* the answer */
    struct http_head answer;
    struct buffer out;
    uint64_t length; /* as the handler has set it */
    bool answered, begun, streaming, holding, ended, length_known, has_length;
    char status_text[SLICE_U64], length_text[SLICE_U64];
    char room[1024];
};

uint64_t worker_now_ms(void);
void worker_log(struct weir_worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Makes the leader look again. Any thread. */
void worker_wake(struct weir_worker *w);

/* pool.c: runs until all is done, on slots + 1 threads, the caller's among them. */
int pool_run(struct weir_worker *w);

/* uplink.c */
/* What poll should wait for; 0 events: nothing. */
short uplink_events(const struct uplink *l);
/* Handles what poll reported, and time. Only the leader. */
void uplink_step(struct uplink *l, short events, uint64_t now_ms);
/* Writes what is gathered as far as the socket takes it; marks the link broken otherwise. */
void uplink_flush(struct uplink *l);
void uplink_close(struct uplink *l, const char *why);
/* When uplink_step is wanted at the latest. */
uint64_t uplink_due(const struct uplink *l);

/* session.c */
int session_start(struct uplink *l);
int session_feed(struct uplink *l, const char *bytes, size_t n);
void session_stop(struct uplink *l);
void session_ping(struct uplink *l);
/* Tells the hub the number of slots, if it has changed. */
void session_announce(struct uplink *l);
void session_goaway(struct uplink *l);
/* The handler has returned: sends the answer that it has prepared, lets go of the job. */
void session_answer(struct weir_job *job);
/* Answers with a 303; the handler goes on, and its slot stays taken. Under the lock. */
int session_redirect(struct weir_job *job, const char *location);
/* Submits the head of a streamed answer. 0, WEIR_ECANCELLED, WEIR_ENOMEM. */
int session_begin_answer(struct weir_job *job);

/* Tells all hubs. */
void session_announce_all(struct weir_worker *w);

/* job.c */
struct weir_job *job_new(struct uplink *l, int32_t stream);
void job_cancel(struct weir_job *job);
/* Wakes whoever waits for the job's body, its room or its cancel. Under the lock. */
void job_changed(struct weir_job *job);
/* Frees it once it has no stream and its handler has returned. */
void job_release(struct weir_job *job);

#endif
