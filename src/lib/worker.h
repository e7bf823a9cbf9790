/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libweir's worker files share: worker.c (API, options), pool.c (threads), uplink.c (one hub: dialling
 * and dialling again), socket.c and http2.c (reverse HTTP/2), zmq.c (ZeroMQ), session.c (what both share of
 * jobs), job.c (a job's request), reply.c (its answer).
 *
 * Threads. slots + 1 equal threads share one lock and wait in one epoll set. Who is woken by a socket reads
 * it, and runs what it has read itself; see pool.c. Everything below belongs to the lock, except what a job's
 * handler alone touches while it runs.
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
    WORKER_READ = 64 * 1024,      /* bytes read at once */
    WORKER_WINDOW = 256 * 1024,   /* bytes of a body on their way, either direction */
    WORKER_HEAD_MAX = 256 * 1024, /* bytes of a job's head and what is built with it */
    WORKER_PING_MS = 1000,
    WORKER_PINGS_MISSED = 3,
    WORKER_SLOTS_MAX = 4096,
    WORKER_HUBS_MAX = 64
};

struct service {
    char *name;
    weir_handler *handler;
    void *arg;
    uint64_t run_us; /* moving average of its run time */
    unsigned runs;
};

struct uplink;

/* How a hub is reached. All under the lock. */
struct transport {
    /* the connection */
    void (*dial)(struct uplink *l);
    short (*events)(const struct uplink *l); /* for poll; 0: nothing */
    void (*step)(struct uplink *l, short events);
    void (*flush)(struct uplink *l);
    void (*hang_up)(struct uplink *l); /* frees what is its own; jobs are dealt with */
    /* the session, once the uplink is open */
    void (*ping)(struct uplink *l);
    void (*announce)(struct uplink *l); /* tells the hub the number of slots, if it has changed */
    void (*leave)(struct uplink *l);
    int (*begin)(struct weir_job *job); /* the answer's head, and as much of its body as is there */
    void (*more)(struct weir_job *job); /* there is more of it, or its end */
    void (*give_up)(struct weir_job *job);
    void (*consumed)(struct weir_job *job, size_t n); /* bytes of its request */
    int (*redirect)(struct weir_job *job, const char *location);
    /* An interim answer that says how far it is. 0 or WEIR_ENOMEM. */
    int (*progress)(struct weir_job *job, struct slice text);
};
extern const struct transport h2_transport, zmq_transport;

enum uplink_state {
    UPLINK_WAITING,
    UPLINK_RESOLVING,
    UPLINK_CONNECTING,
    UPLINK_UPGRADING,
    UPLINK_OPEN,
    UPLINK_CLOSED
};

/* A PING behind RST_STREAMs, whose answer waits for the handlers of those jobs. */
enum { PINGS_HELD = 64 };
struct held_ping {
    uint8_t opaque[8];
    uint64_t resets; /* how many there had been */
};

/* The connection to one hub. */
struct uplink {
    struct weir_worker *worker;
    const struct transport *via;
    char *name;
    enum uplink_state state;
    int fd;             /* -1: none */
    short armed;        /* the events for which it is in the pool's epoll set; 0: it is not */
    struct list jobs;   /* that have a stream here */
    unsigned announced; /* slots that the hub knows of */
    /* reverse HTTP */
    struct io_address address;
    nghttp2_session *session;
    struct buffer in; /* of the upgrade's answer */
    size_t scanned;
    struct buffer out;
    struct list resets; /* jobs whose stream was reset and whose handler has not returned, oldest first */
    uint64_t reset_count;
    struct held_ping pings[PINGS_HELD];
    unsigned ping_count;
    struct lookup *lookup;  /* while dialling */
    unsigned address_index; /* of its addresses: which to dial next */
    /* ZeroMQ */
    char *endpoint;
    void *socket;
    bool readable; /* without its descriptor telling */
    bool used;     /* since it was last looked at */
    bool parting;  /* has said BYE; counts as a stream until the hub answers: a job may be on its way */

    unsigned unsent; /* answers since the last write */
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
    void *zmq_context;
    bool zmq_context_given;
    char hub_key[41], zmq_public[41], zmq_secret[41]; /* CURVE; empty: none */

    pthread_mutex_t lock;
    struct uplink *links; /* WORKER_HUBS_MAX of them have room: they do not move */
    char *read_buffer;
    size_t link_count;
    struct list ready; /* jobs to run */
    unsigned ready_count;
    unsigned busy;    /* jobs accepted whose handler has not returned */
    unsigned streams; /* jobs that have a stream */
    unsigned zombies; /* handlers that run on after their stream was reset */
    bool quit, draining;
    uint64_t drain_until_ms;
    unsigned gate_limit; /* most jobs at once that the gate allows */
    uint64_t gate_due_ms;
    uint64_t random;
    int wake_fd, signal_fd;
    int stops; /* atomic */
    /* pool.c */
    int epoll_fd, help_fd, timer_fd;  /* help_fd: so many threads are called */
    uint64_t timer_us;                /* when it goes off; UINT64_MAX: never */
    const struct runner *reader;      /* keeps what it has read from out of the set while its jobs run */
    unsigned idle;                    /* threads that wait */
    unsigned activity, activity_seen; /* changes with each job run: tells the guard that something goes on */
    uint64_t waits_since_us;
    bool hot; /* the last wait was short */
};

struct weir_job {
    struct list ready, link_node;
    struct weir_worker *worker;
    struct uplink *link; /* NULL: its stream is closed */
    struct service *service;
    int32_t stream;            /* HTTP/2 */
    uint64_t credit, owed;     /* ZeroMQ: bytes that may be sent; that were read and not told */
    int cancelled;             /* atomic */
    int event_fd;              /* of weir_job_fd; -1: not asked for */
    struct redirect *redirect; /* its body is fetched from the worker */
    struct uplink *reset_by;   /* its stream was reset, and its hub waits for the handler */
    uint64_t reset_serial;
    bool has_stream, handled, zombie;
    bool body_ended, body_cut, end_told;
    pthread_cond_t changed;
    struct arena arena;
    struct http_head head;
    struct buffer body;     /* received, not yet read */
    struct buffer gathered; /* by weir_job_body */
    struct parts *parts;    /* of it, as weir_job_next_part walks them */
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
/* Makes a thread look after everything. Any thread. */
void worker_wake(struct weir_worker *w);

/* pool.c: runs until all is done, on slots + 1 threads, the caller's among them. */
int pool_run(struct weir_worker *w);

/* uplink.c: one hub. */
/* Handles what poll reported, and time. */
void uplink_step(struct uplink *l, short events, uint64_t now_ms);
/* The hub has let the worker in. */
void uplink_opened(struct uplink *l);
void uplink_close(struct uplink *l, const char *why);
/* When uplink_step is wanted at the latest. */
uint64_t uplink_due(const struct uplink *l);

/* session.c: jobs, whatever carries them. */
unsigned session_slots(const struct weir_worker *w);
/* A slot is free for a job that comes in now. */
bool session_room(const struct weir_worker *w);
/* Adds a field to a job's head. 0, WEIR_ENOMEM or WEIR_EHEADTOOBIG. */
int session_field(struct weir_job *job, struct slice name, struct slice value);
/* The head is complete: it is run. False: its service is not offered here. */
bool session_take(struct weir_job *job);
/* Its stream is closed. */
void session_detach(struct weir_job *job);
/* The same, and not by its end: the handler may run on. */
void session_lost(struct weir_job *job);
/* The connection is gone. */
void session_stop(struct uplink *l);
/* The handler has returned: sends the answer that it has prepared, lets go of the job. */
void session_answer(struct weir_job *job);
/* Answers with a 303; the handler goes on, and its slot stays taken. */
int session_redirect(struct weir_job *job, const char *location);
/* Bytes that its body has; *ret_known: Content-Length is to be sent. */
uint64_t session_length(const struct weir_job *job, bool *ret_known);
/* Tells all hubs the number of slots. */
void session_announce_all(struct weir_worker *w);

/* http2.c: HTTP/2 for socket.c. */
int http2_start(struct uplink *l);
int http2_feed(struct uplink *l, const char *bytes, size_t n);
void http2_stop(struct uplink *l);
/* Fills l->out with frames. */
void http2_gather(struct uplink *l);
void http2_ping(struct uplink *l);
void http2_announce(struct uplink *l);
void http2_leave(struct uplink *l);
int http2_begin(struct weir_job *job);
void http2_more(struct weir_job *job);
void http2_give_up(struct weir_job *job);
void http2_consumed(struct weir_job *job, size_t n);
int http2_redirect(struct weir_job *job, const char *location);
int http2_progress(struct weir_job *job, struct slice text);
/* The handler of a job whose stream was reset has returned. */
void http2_returned(struct weir_job *job);

/* scatter.c */
void parts_free(struct parts *p);

/* job.c */
/* Has a stream, but no handler yet. */
struct weir_job *job_new(struct uplink *l);
void job_cancel(struct weir_job *job);
/* Wakes whoever waits for the job's body, its room or its cancel. Under the lock. */
void job_changed(struct weir_job *job);
/* Frees it once it has no stream and its handler has returned. */
void job_release(struct weir_job *job);

#endif
