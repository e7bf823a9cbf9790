/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir.h: the one public header of libweir.
 *
 * Three things live here: a worker, which pulls jobs from one or more hubs and answers them; a client, for
 * topics and durable jobs; and a hub that can be embedded in another program.
 *
 * Conventions. Functions return 0 (or a count) on success and a negative WEIR_E* on failure;
 * weir_strerror() gives the text. Out-parameters are called ret_... and stay untouched on failure.
 * Pointers handed to a handler are borrowed and live until the handler returns. Options structs are
 * copied: the caller may free what they point to as soon as the call has returned. A zero field in
 * an options struct means the default.
 */
#ifndef WEIR_H
#define WEIR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#define WEIR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define WEIR_API
#define WEIR_PRINTF(fmt, args)
#endif

/*
 * Every error that weir knows. Columns: name, value, text, the HTTP status that a hub answers with
 * when this error ends a request (0: never shown to a client), whether trying again may help.
 */
#define WEIR_ERRORS(X)                                                                                       \
    X(ENOMEM, -1, "out of memory", 503, 1)                                                                   \
    X(EINVAL, -2, "invalid argument", 400, 0)                                                                \
    X(EMALFORMED, -3, "malformed message", 400, 0)                                                           \
    X(ENOSERVICE, -4, "no such service", 404, 0)                                                             \
    X(EFULL, -5, "queue full", 503, 1)                                                                       \
    X(EDRAINING, -6, "hub is draining", 503, 1)                                                              \
    X(EQUEUETIME, -7, "no worker became free within the queue time", 503, 1)                                 \
    X(EDEADLINE, -8, "deadline passed", 504, 1)                                                              \
    X(ECANCELLED, -9, "cancelled", 0, 0)                                                                     \
    X(EWORKERGONE, -10, "worker went away before it had answered", 502, 0)                                   \
    X(EBADANSWER, -11, "worker answered nonsense", 502, 0)                                                   \
    X(EHOPS, -12, "too many hops", 508, 0)                                                                   \
    X(ECUT, -13, "answer was cut off", 0, 0)                                                                 \
    X(ETOOBIG, -14, "body over the limit", 413, 0)                                                           \
    X(EHEADTOOBIG, -15, "header fields over the limit", 431, 0)                                              \
    X(ETARGETTOOBIG, -16, "request target over the limit", 414, 0)                                           \
    X(ESLOW, -17, "client too slow sending its request", 408, 1)                                             \
    X(EMETHOD, -18, "method not implemented", 501, 0)                                                        \
    X(EVERSION, -19, "HTTP version not supported", 505, 0)                                                   \
    X(EEXPECT, -20, "expectation cannot be met", 417, 0)                                                     \
    X(ECONNECT, -21, "cannot reach the hub", 0, 1)                                                           \
    X(ECLOSED, -22, "connection closed", 0, 1)                                                               \
    X(ETIMEDOUT, -23, "timed out", 0, 1)                                                                     \
    X(ENOTFOUND, -24, "not found", 404, 0)                                                                   \
    X(ECONFIG, -25, "bad configuration", 0, 0)                                                               \
    X(EPROTOCOL, -26, "protocol error", 0, 0)                                                                \
    X(ESTATE, -27, "not possible in this state", 0, 0)                                                       \
    X(EIO, -28, "input/output error", 0, 1)                                                                  \
    X(ENOTALLOWED, -29, "method not allowed here", 405, 0)                                                   \
    X(ETOOMANY, -30, "too many connections", 503, 1)                                                         \
    X(ETOKEN, -31, "a token is required", 401, 0)                                                            \
    X(EFORBIDDEN, -32, "the token is not known", 403, 0)                                                     \
    X(EAGAIN, -33, "nothing there yet", 0, 1)                                                                \
    X(EFAILED, -34, "worker could not answer", 502, 0)                                                       \
    X(ERATE, -35, "tenant over its rate", 429, 1)                                                            \
    X(EPARTS, -36, "too many parts", 502, 0)                                                                 \
    X(ECONFLICT, -37, "conflicts with what is there", 422, 0)                                                \
    X(EFENCE, -38, "somebody else has it by now", 0, 0)                                                      \
    X(ENOSPACE, -39, "no room to store it", 507, 1)                                                          \
    X(EUNAVAILABLE, -40, "the store cannot be written or read at the moment", 503, 1)                        \
    X(ECORRUPT, -41, "what is stored makes no sense", 500, 0)

enum weir_error {
    WEIR_OK = 0,
#define WEIR_ERROR_ENUM(name, value, text, status, retryable) WEIR_##name = value,
    WEIR_ERRORS(WEIR_ERROR_ENUM)
#undef WEIR_ERROR_ENUM
};

/* A fixed text for a WEIR_E* code (or 0); never NULL. Any thread. */
WEIR_API const char *weir_strerror(int error);

/* The library's version, "MAJOR.MINOR.PATCH". Any thread. */
WEIR_API const char *weir_version(void);

/* ------------------------------------------------------------------ worker */

typedef struct weir_worker weir_worker;
typedef struct weir_job weir_job;

typedef struct weir_worker_options {
    const char *hub;    /* "HOST:PORT" or "unix:PATH", or for ZeroMQ "tcp+zmq://HOST:PORT",
                           "ipc+zmq://PATH" or "inproc+zmq://NAME"; several, separated by commas: all
                           are served. Default 127.0.0.1:8081 */
    unsigned slots;     /* jobs at once over all hubs, each on a thread of its own; default 1 */
    const char *id;     /* this worker's name in status and logs; default HOSTNAME-PID */
    const char *labels; /* "k=v, k=v"; default none */
    const char *token;  /* sent as Authorization: Bearer; default none */
    unsigned drain_ms;  /* how long running jobs may take after a stop; default 28000 */
    unsigned max_body;  /* bytes of request body that weir_job_body() gathers at most; default 1 MiB */
    int fd;             /* > 0: an already connected socket (see weir_hub_connect) used in place of
                           hub; the worker owns it from then on and ends when it closes */
    /* A gate: how many jobs may run at once now, where running already do; slots is the most. Asked every
       gate_ms (default 200) on one of the worker's threads; must not block. With an answer of no more than
       running the worker takes no job until it is asked again. NULL: none. */
    unsigned (*gate)(void *gate_arg, unsigned running);
    void *gate_arg;
    unsigned gate_ms;
    /* Bulk answers: a reply with status 200 and more than redirect_over bytes (default 1 MiB) is a 303 to a
       one-time address on this listener of the worker's own, where the client fetches the body directly. It
       expires after redirect_ms (default 20000). redirect: "HOST:PORT"; default none. redirect_url: what
       stands in front of the address, default "http://HOST:PORT". */
    const char *redirect, *redirect_url;
    size_t redirect_over;
    unsigned redirect_ms;
    /* ZeroMQ: the public CURVE key of the hubs (Z85), default: no CURVE. The context to make sockets in,
       which inproc needs (weir_hub_zmq_context); it must outlive the worker. Default: one of its own. */
    const char *hub_key;
    void *zmq_context;
    /* Called with one line of text about what happens (connected, lost, draining); default: none.
       Runs on the worker's own threads, never two at once. */
    void (*log)(void *log_arg, const char *line);
    void *log_arg;
} weir_worker_options;

/*
 * Runs one job. Returns 0 when it has answered (by a weir_reply..., weir_forward or weir_again
 * call). A negative WEIR_E* with no answer given makes the answer 500 with the error's text;
 * WEIR_ECANCELLED after a cancel needs no answer. Runs on one of the worker's job threads; several
 * run at once when slots > 1, so arg must be safe for that.
 */
typedef int weir_handler(weir_job *job, void *arg);

/* A new worker, not yet connected; owned by the caller. NULL: out of memory, or bad options. */
WEIR_API weir_worker *weir_worker_new(const weir_worker_options *options);
/* As weir_worker_new, with the reason of a failure: WEIR_ENOMEM, or WEIR_EINVAL for an address,
   a number of slots or an id that cannot be. */
WEIR_API int weir_worker_open(const weir_worker_options *options, weir_worker **ret_worker);

/* Offers a service. Before weir_worker_run only. WEIR_EINVAL: a name that no service can have. */
WEIR_API int weir_worker_offer(weir_worker *worker, const char *service, weir_handler *handler, void *arg);

/* Adds a hub to those that are served, while it runs or before; one that is served already is not added
   again. 64 at most (WEIR_EFULL). WEIR_EINVAL: not an address. WEIR_ESTATE: it drains. Any thread. */
WEIR_API int weir_worker_add_hub(weir_worker *worker, const char *hub);

/*
 * Connects, serves, reconnects when a hub goes (exponential backoff with jitter, only after
 * failures), and returns 0 after a drain: on SIGTERM or SIGINT (caught for the duration of the
 * call) or weir_worker_stop().
 */
WEIR_API int weir_worker_run(weir_worker *worker);
/* The same, without touching signal handlers. */
WEIR_API int weir_worker_serve(weir_worker *worker);

/* Asks a running worker to drain and return. Safe from any thread and from signal handlers. A
   second call ends it at once: running jobs are cancelled (a handler that does not look is waited for). */
WEIR_API void weir_worker_stop(weir_worker *worker);

/* Changes the number of slots, while it runs or before; 0 takes no jobs until raised again (a
   gate). Never above the number of slots it was made with. Any thread. */
WEIR_API int weir_worker_set_slots(weir_worker *worker, unsigned slots);

/* Frees a worker that does not run; sets *worker to NULL. NULL and *NULL are fine. */
WEIR_API void weir_worker_free(weir_worker **worker);

/* --------------------------------------------------------- a job's request */

WEIR_API const char *weir_job_id(const weir_job *job);
WEIR_API const char *weir_job_service(const weir_job *job);
WEIR_API const char *weir_job_method(const weir_job *job);
WEIR_API const char *weir_job_target(const weir_job *job); /* path and query, as sent */
WEIR_API const char *weir_job_path(const weir_job *job);   /* the target up to '?', as sent */
/* The value of a header field; the name in any case. NULL when absent; the first one when repeated. */
WEIR_API const char *weir_job_header(const weir_job *job, const char *name);
/* Field number index, 0-based, for walking all of them; WEIR_ENOTFOUND past the end. */
WEIR_API int weir_job_header_at(const weir_job *job, size_t index, const char **ret_name,
                                const char **ret_value);
WEIR_API unsigned weir_job_hop(const weir_job *job);
WEIR_API unsigned weir_job_attempt(const weir_job *job);
/* Milliseconds left until the request's deadline; -1 when there is none; 0 when it has passed. */
WEIR_API int64_t weir_job_time_left(const weir_job *job);

/* A query parameter, percent-decoded; NULL when absent. */
WEIR_API const char *weir_job_query(weir_job *job, const char *name);
/* As a number: decimal digits only. WEIR_ENOTFOUND: absent. WEIR_EINVAL: not a number, or over 64 bits. */
WEIR_API int weir_job_query_u64(weir_job *job, const char *name, uint64_t *ret_value);

/* 0 when it is known that no (more) body comes; else 1. Does not wait. */
WEIR_API int weir_job_has_body(weir_job *job);
/* The next bytes of the body: waits until there are some. Returns their count, 0 at the end, or
   WEIR_ECANCELLED / WEIR_ECUT when the rest will not come. */
WEIR_API ptrdiff_t weir_job_body_read(weir_job *job, void *buffer, size_t size);
/* As weir_job_body_read, but does not wait: WEIR_EAGAIN when there is nothing yet. */
WEIR_API ptrdiff_t weir_job_body_poll(weir_job *job, void *buffer, size_t size);
/* For handlers with a poll loop of their own: a descriptor that becomes readable when there is body to read,
   at its end, and when the job is cancelled; after WEIR_EAGAIN, and after the end was read, it is not
   readable until something new happens. It is the job's: do not read or close it. WEIR_EIO: there are no more
   descriptors. */
WEIR_API int weir_job_fd(weir_job *job);
/* The whole body, gathered (at most max_body bytes: else WEIR_ETOOBIG) and followed by a NUL. */
WEIR_API int weir_job_body(weir_job *job, const char **ret_body, size_t *ret_size);

/* 1 once the job was cancelled: the client left, its deadline passed, the hub went. Cheap: call it in loops.
 */
WEIR_API int weir_job_cancelled(const weir_job *job);
/* Sleeps up to ms milliseconds; returns 0, or WEIR_ECANCELLED as soon as the job is cancelled. */
WEIR_API int weir_job_wait(weir_job *job, unsigned ms);

/* Says how far the job is, a short text such as "40 %" (at most 255 bytes without control characters), before
   the answer begins. Whoever asks for the state of a durable job sees the last one. It costs a message to the
   hub: a few a second are plenty. 0, WEIR_EINVAL, WEIR_ESTATE (the answer has begun), WEIR_ECANCELLED. */
WEIR_API int weir_job_progress(weir_job *job, const char *text);

/* -------------------------------------------------------------- answering */

/* Adds a header field to the answer that comes next. Call before the reply. Fields of the connection are
   refused (WEIR_EINVAL). content-length is for a streamed reply whose length is known, which must then be so
   long, and for answers to HEAD; a reply that is given whole has its own. */
WEIR_API int weir_job_set_header(weir_job *job, const char *name, const char *value);

/* The whole answer at once. content_type may be NULL (none is sent). */
WEIR_API int weir_reply(weir_job *job, unsigned status, const char *content_type, const void *body,
                        size_t size);
WEIR_API int weir_reply_printf(weir_job *job, unsigned status, const char *content_type, const char *format,
                               ...) WEIR_PRINTF(4, 5);
/* An RFC 9457 problem+json answer; detail is printf-formatted. */
WEIR_API int weir_reply_problem(weir_job *job, unsigned status, const char *format, ...) WEIR_PRINTF(3, 4);

/* A streamed answer. weir_reply_write waits while the client is slower than the handler; it gives
   WEIR_ECANCELLED once nobody wants the rest. */
WEIR_API int weir_reply_begin(weir_job *job, unsigned status, const char *content_type);
WEIR_API int weir_reply_write(weir_job *job, const void *data, size_t size);
WEIR_API int weir_reply_end(weir_job *job);

/* Sends the request on to service instead of answering. target NULL: the original one stays. The
   body (content_type may be NULL) becomes the request's body there; NULL and 0 for none. */
WEIR_API int weir_forward(weir_job *job, const char *service, const char *target, const char *content_type,
                          const void *body, size_t size);
/* The same service once more, from the tail of its queue: gives the slot back between portions. */
WEIR_API int weir_again(weir_job *job, const char *target, const char *content_type, const void *body,
                        size_t size);

/* A part of a scattered request, or of what was gathered. */
typedef struct weir_part {
    unsigned status; /* gathered: of the part's answer (200, or what went wrong); else not looked at */
    const char *content_type; /* NULL: none */
    const void *body;
    size_t size;
} weir_part;

/* Makes a job for service of each part, instead of answering. When all have answered, their answers go on, in
   part order, to the service gather (see weir_job_next_part) or, when it is NULL, to the client as
   multipart/mixed. A part that fails fails alone. Each part's job has the header Weir-Part: INDEX/COUNT. */
WEIR_API int weir_scatter(weir_job *job, const char *service, const char *gather, const weir_part *parts,
                          size_t count);
/* The next part of a gathered request, or of any multipart/mixed one; its body is borrowed from the job, its
   content_type until the next call. The whole body is gathered as by weir_job_body (mind max_body).
   WEIR_ENOTFOUND: that was the last; WEIR_EMALFORMED: it is not multipart. */
WEIR_API int weir_job_next_part(weir_job *job, weir_part *ret_part);

/* ------------------------------------------------------------------ client */

/*
 * A client of a hub, at its listener for clients ("listen"). Its calls block, but none for longer than its
 * time-out. It keeps a connection, and makes a new one when that is lost. One thread at a time uses a client;
 * any number of clients may be used at once.
 *
 * What fails in a way that may pass (WEIR_ECONNECT, WEIR_ECLOSED, an answer 503 or 429) is tried again, after
 * a pause of 50 ms that doubles up to 5 s, up to half of it less at random, and not before a Retry-After. A
 * publication alone is not, unless nothing of it was sent or the hub has said that it drains: after
 * WEIR_ECLOSED or WEIR_ETIMEDOUT it is not known whether it was published.
 */
typedef struct weir_client weir_client;

typedef struct weir_client_options {
    const char *hub;     /* "http://HOST[:PORT][/BASE]", "HOST:PORT" or "unix:PATH[:/BASE]"; BASE is what a
                            proxy wants in front of all paths. Default http://127.0.0.1:8080 */
    const char *token;   /* sent as Authorization: Bearer; default none */
    unsigned timeout_ms; /* the most that a call may take, with all that is tried again, besides what it is
                            told to wait; default 30000 */
    unsigned attempts;   /* how often in a row a request is tried; default 10, 1: nothing is tried again */
    size_t max_body;     /* bytes of a message or an answer that are taken in at most, else WEIR_ETOOBIG;
                            default 64 MiB */
} weir_client_options;

/* A new client, not yet connected; owned by the caller. NULL: the defaults. WEIR_EINVAL: not an address, or
   no token; WEIR_ENOMEM; WEIR_EIO: the system has no random numbers. */
WEIR_API int weir_client_open(const weir_client_options *options, weir_client **ret_client);
/* Sets *client to NULL. NULL and *NULL are fine. */
WEIR_API void weir_client_free(weir_client **client);
/* What the hub said of the last call that it refused, beyond the error; "" when that was all. Until the next
   call. */
WEIR_API const char *weir_client_detail(const weir_client *client);

/*
 * Of all calls: WEIR_EINVAL (a name that cannot be), WEIR_ETOKEN, WEIR_EFORBIDDEN, WEIR_ECONNECT,
 * WEIR_ECLOSED, WEIR_ETIMEDOUT, WEIR_EMALFORMED (no HTTP), WEIR_EPROTOCOL (not what a hub answers),
 * WEIR_EUNAVAILABLE, WEIR_EDRAINING, WEIR_ENOMEM.
 */

/* ---- topics: docs/protocol.md "Topics" */

/* type: its Content-Type, or NULL. WEIR_ETOOBIG; WEIR_ENOSPACE: the disk is full. */
WEIR_API int weir_client_publish(weir_client *client, const char *topic, const char *type, const void *body,
                                 size_t size);
/* Also when the subscription is there already. WEIR_ENOSPACE: there are too many. */
WEIR_API int weir_client_subscribe(weir_client *client, const char *topic, const char *subscription);
/* WEIR_ENOTFOUND: there is none. */
WEIR_API int weir_client_unsubscribe(weir_client *client, const char *topic, const char *subscription);

typedef struct weir_message {
    uint64_t id;           /* greater than those of all messages before it in its topic */
    uint64_t published_ms; /* unix time */
    unsigned delivery;     /* 1, and one more each time that it comes again; 0: it does not */
    const char *type;      /* NULL: none */
    const void *body;      /* followed by a NUL */
    size_t size;
} weir_message;

enum weir_ack {
    WEIR_ACK_AUTO = 0,    /* a message is acknowledged as it is given out: it comes once at most */
    WEIR_ACK_EXPLICIT = 1 /* it comes again if it is not acknowledged within the hub's topic-ack-time */
};
/* The next message, waiting up to wait_ms for one. ack: an enum weir_ack; above 1: explicit, within that many
   milliseconds. WEIR_EAGAIN: none came. WEIR_ENOTFOUND: no such subscription. */
WEIR_API int weir_client_next(weir_client *client, const char *topic, const char *subscription,
                              unsigned wait_ms, unsigned ack, weir_message **ret_message);
/* The message has been dealt with. WEIR_ENOTFOUND: somebody has said so before, or the subscription is
   gone. */
WEIR_API int weir_client_acknowledge(weir_client *client, const char *topic, const char *subscription,
                                     uint64_t id);
/* Sets *message to NULL. NULL and *NULL are fine. */
WEIR_API void weir_message_free(weir_message **message);

/* ---- durable jobs: docs/protocol.md "Durable jobs" */

typedef struct weir_field {
    const char *name, *value;
} weir_field;

typedef struct weir_request {
    const char *method;       /* default POST */
    const char *target;       /* path and query, which lead to a service */
    const weir_field *fields; /* such as Content-Type, Idempotency-Key, Weir-Priority */
    size_t field_count;
    const void *body;
    size_t size;
    uint64_t delay_ms; /* a durable job is not run before that */
} weir_request;

#define WEIR_JOB_ID_SIZE 64 /* bytes for the id of a durable job, with its NUL */

/* Has a request stored as a durable job. Without an Idempotency-Key among its fields it gets one that is this
   call's own, so that it is safe to try it again. WEIR_ENOSERVICE; WEIR_ECONFLICT: the key has come with
   another request; WEIR_ENOSPACE; WEIR_ERATE; WEIR_ESTATE: the hub stores no jobs (it has no data directory),
   and has run this one at once. */
WEIR_API int weir_client_submit(weir_client *client, const weir_request *request,
                                char ret_id[WEIR_JOB_ID_SIZE]);

typedef struct weir_durable {
    const char *state; /* queued, running, done, failed, dead, cancelled */
    int ended;         /* done, failed, dead or cancelled */
    unsigned status;   /* of its answer; 0: there is none */
    unsigned hop, failed_attempts;
    const char *service, *progress, *reason; /* progress, reason: NULL when there is none */
    const char *json;                        /* all that the hub tells */
} weir_durable;

/* What there is to know of a job. WEIR_ENOTFOUND: no such job, or it was another tenant's. */
WEIR_API int weir_client_state(weir_client *client, const char *id, weir_durable **ret_job);
WEIR_API void weir_durable_free(weir_durable **job);

typedef struct weir_answer {
    unsigned status;
    const weir_field *fields; /* names in lower case */
    size_t field_count;
    const void *body; /* followed by a NUL */
    size_t size;
} weir_answer;

/* A job's answer, of whatever status, waiting up to wait_ms for it. WEIR_EAGAIN: it has not ended.
   WEIR_ECANCELLED: it was cancelled. WEIR_ENOTFOUND. */
WEIR_API int weir_client_result(weir_client *client, const char *id, unsigned wait_ms,
                                weir_answer **ret_answer);
/* The first field of that name, in any case; NULL: none. */
WEIR_API const char *weir_answer_header(const weir_answer *answer, const char *name);
WEIR_API void weir_answer_free(weir_answer **answer);

/* Also when it was cancelled before. WEIR_ESTATE: it has ended otherwise. WEIR_ENOTFOUND. */
WEIR_API int weir_client_cancel(weir_client *client, const char *id);

/* ----------------------------------------------------------- embedded hub */

typedef struct weir_hub weir_hub;

/* A hub, configured by keys of docs/configuration.md as NULL-terminated pairs ("listen",
   "127.0.0.1:0", "route", "/=hello", NULL). Listeners are bound when this returns 0. On failure
   *ret_text (when not NULL) is set to a message that the caller frees with free(). */
WEIR_API int weir_hub_new(const char *const *pairs, weir_hub **ret_hub, char **ret_text);
/* Whom to choose. A worker that could run a request now: */
typedef struct weir_candidate {
    const char *id, *labels;
    unsigned slots, running;
} weir_candidate;
/* and a request, as far as a choice needs to know it; the texts live until the call is over. NULL: no such
   field (or out of memory). */
typedef struct weir_choice weir_choice;
WEIR_API const char *weir_choice_service(const weir_choice *choice);
WEIR_API const char *weir_choice_header(weir_choice *choice, const char *name);
/*
 * Chooses one of count workers (2 to 32 that may get the request: those with the fewest jobs, the hub's own
 * choice first): its index, or -1 for the hub's own choice. Not asked when there is nothing to choose: when
 * one worker alone is free, as is usual while requests wait. Runs on the hub's thread for each request, which
 * waits for it; must not call the hub.
 */
typedef int weir_choose(weir_choice *choice, const weir_candidate *workers, size_t count, void *arg);
/* Before weir_hub_run. NULL: the hub chooses. */
WEIR_API void weir_hub_choose(weir_hub *hub, weir_choose *choose, void *arg);
/* Serves until weir_hub_stop and the drain after it; 0 then. On the caller's thread. */
WEIR_API int weir_hub_run(weir_hub *hub);
/* Begins the drain; a second call ends at once. Any thread, and signal handlers. */
WEIR_API void weir_hub_stop(weir_hub *hub);
/* The address that a listener ("listen", "workers", "zmq", "admin") is bound to, as "HOST:PORT" or
   "unix:PATH", or as a ZeroMQ endpoint; owned by the hub; NULL when there is no such listener. */
WEIR_API const char *weir_hub_address(const weir_hub *hub, const char *listener);
/* A socket connected to the hub as a worker's would be, without any listener: give it to
   weir_worker_options.fd. Any thread. */
WEIR_API int weir_hub_connect(weir_hub *hub, int *ret_fd);
/* The ZeroMQ context of its endpoints, which inproc:// needs; NULL: it has none. Owned by the hub: sockets
   made in it must be closed before weir_hub_free, which waits for that. */
WEIR_API void *weir_hub_zmq_context(const weir_hub *hub);
/* Frees a hub that does not run; sets *hub to NULL. */
WEIR_API void weir_hub_free(weir_hub **hub);

#ifdef __cplusplus
}
#endif
#endif
