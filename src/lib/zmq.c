/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub over ZeroMQ (docs/protocol.md "ZeroMQ"). The socket passes from thread to thread under the lock,
 * which is the barrier that libzmq wants. Its descriptor tells by edges, and any call on it may swallow one:
 * so after sending, whoever did it looks, and wakes the leader.
 *
 * announced is what the hub may count on: credit that it has not used, and jobs that have not ended.
 */
#include "lib/worker.h"
#include "wire/http1.h"
#include "wire/w1.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <zmq.h>

enum { DIAL_LIMIT_MS = 5000, LINGER_MS = 1000, MORE_STEP = W1_BODY_MAX / 4 };

/* ---- saying ---- */

static void say(struct uplink *l, enum w1_kind kind, const struct slice *more, unsigned n) {
    struct slice frames[W1_FRAMES] = {SLICE("W1"), w1_text(kind)};
    for (unsigned i = 0; i < n; i++) frames[2 + i] = more[i];
    for (unsigned i = 0; i < n + 2 && !l->broken; i++) {
        int flags = ZMQ_DONTWAIT | (i < n + 1 ? ZMQ_SNDMORE : 0);
        if (zmq_send(l->socket, frames[i].n ? frames[i].p : "", frames[i].n, flags) < 0) l->broken = true;
    }
    l->used = true;
}

static void say_job(struct weir_job *job, enum w1_kind kind, struct slice a, struct slice b) {
    struct slice more[] = {head_get(&job->head, HEAD_WEIR_JOB), a, b};
    say(job->link, kind, more, b.p ? 3 : a.p ? 2 : 1);
}

static const struct slice none;

static void announce(struct uplink *l) {
    char text[SLICE_U64];
    unsigned slots = session_slots(l->worker);
    if (l->state != UPLINK_OPEN || l->going_away || slots <= l->announced) return;
    struct slice more = slice_from_u64(text, slots - l->announced);
    l->announced = slots;
    say(l, W1_SLOTS, &more, 1);
}

static void flush(struct uplink *l) {
    l->unsent = 0;
    if (!l->socket) return;
    announce(l);
    if (!l->used) return;
    l->used = false;
    int events = 0;
    size_t size = sizeof(events);
    l->readable = zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
    if ((l->readable || l->broken) && l->armed) worker_wake(l->worker);
}

static void ping(struct uplink *l) {
    say(l, W1_PING, NULL, 0);
}

static void leave(struct uplink *l) {
    if (l->going_away) return;
    say(l, W1_BYE, NULL, 0);
    l->going_away = l->parting = true;
    l->worker->streams++;
}

static void parted(struct uplink *l) {
    if (!l->parting) return;
    l->parting = false;
    l->worker->streams--;
}

/* ---- an answer goes out ---- */

/* A job has ended: its credit is used up. */
static void used_up(struct uplink *l) {
    if (l->announced > 0) l->announced--;
}

/* The hub knows no more of it. */
static void over(struct weir_job *job) {
    used_up(job->link);
    session_detach(job);
}

static void send_more(struct weir_job *job) {
    size_t n;
    while (job->credit > 0 && (n = buffer_size(&job->out)) > 0) {
        if (n > job->credit) n = (size_t)job->credit;
        if (n > W1_BODY_MAX) n = W1_BODY_MAX;
        say_job(job, W1_BODY, (struct slice){buffer_slice(&job->out).p, n}, none);
        buffer_consume(&job->out, n);
        job->credit -= n;
        if (job->streaming) job_changed(job); /* there is room again */
    }
    if (!job->ended || buffer_size(&job->out) > 0) return;
    say_job(job, W1_END, none, none);
    over(job);
}

static int write_head(struct weir_job *job, struct buffer *out) {
    struct head_field fields[256 + 1];
    struct http_head head = {.status = job->answer.status, .fields = fields, .count = job->answer.count};
    if (head.count) memcpy(fields, job->answer.fields, head.count * sizeof(*fields));
    bool known;
    uint64_t length = session_length(job, &known);
    if (known) {
        struct slice name = head_name_text(HEAD_CONTENT_LENGTH),
                     value = slice_from_u64(job->length_text, length);
        fields[head.count++] = (struct head_field){
            .name = name.p, .value = value.p, .name_size = (uint16_t)name.n, .value_size = (uint32_t)value.n};
    }
    return http1_write_response(out, &head, 1);
}

static int begin(struct weir_job *job) {
    struct buffer head;
    buffer_init(&head);
    int err = write_head(job, &head);
    if (slice_eq(job->head.method, SLICE("HEAD"))) buffer_reset(&job->out);
    if (err == 0 && job->ended && buffer_size(&job->out) <= W1_REPLY_MAX) {
        struct slice body = buffer_slice(&job->out);
        say_job(job, W1_REPLY, buffer_slice(&head), (struct slice){body.n ? body.p : "", body.n});
        over(job);
    } else if (err == 0) {
        job->credit = W1_BODY_MAX;
        say_job(job, W1_HEAD, buffer_slice(&head), none);
        send_more(job);
    }
    buffer_fini(&head);
    return err;
}

static void give_up(struct weir_job *job) {
    if (!job->link) return;
    say_job(job, W1_FAIL, SLICE("0"), job->cancelled ? SLICE("cancelled") : SLICE("the answer broke off"));
    over(job);
}

static int redirect(struct weir_job *job, const char *location) {
    struct buffer head;
    buffer_init(&head);
    int err =
        buffer_printf(&head, "HTTP/1.1 303 See Other\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n", location);
    if (err == 0) {
        say_job(job, W1_REPLY, buffer_slice(&head), SLICE(""));
        over(job);
    }
    buffer_fini(&head);
    return err;
}

static int progress(struct weir_job *job, struct slice text) {
    struct buffer head;
    buffer_init(&head);
    int err = buffer_printf(&head, "HTTP/1.1 102 Processing\r\nweir-progress: %.*s\r\n\r\n", SLICE_ARG(text));
    if (err == 0) say_job(job, W1_HEAD, buffer_slice(&head), none);
    buffer_fini(&head);
    return err;
}

static void consumed(struct weir_job *job, size_t n) {
    char text[SLICE_U64];
    job->owed += n;
    if (job->owed < MORE_STEP || job->body_ended) return;
    say_job(job, W1_MORE, slice_from_u64(text, job->owed), none);
    job->owed = 0;
}

/* ---- a job comes in ---- */

/* Given back unstarted. */
static void refuse(struct uplink *l, struct slice id, const char *why) {
    struct slice more[] = {id, SLICE("1"), slice_of(why)};
    used_up(l);
    say(l, W1_FAIL, more, 3);
}

static int read_head(struct weir_job *job, struct slice text) {
    struct arena arena;
    struct http_head head;
    char room[4096];
    arena_init(&arena, WORKER_HEAD_MAX, room, sizeof(room));
    int err = http1_request(text, &arena, &head, NULL);
    if (err == 0) {
        job->head.method = arena_copy(&job->arena, head.method);
        job->head.target = arena_copy(&job->arena, head.target);
        if (!job->head.method.p || !job->head.target.p) err = WEIR_ENOMEM;
    }
    for (unsigned i = 0; i < head.count && err == 0; i++)
        err = session_field(job, field_name(&head.fields[i]), field_value(&head.fields[i]));
    arena_fini(&arena);
    return err;
}

static void heard_job(struct uplink *l, const struct w1 *m, struct slice id) {
    struct weir_job *job = session_room(l->worker) ? job_new(l) : NULL;
    if (!job) {
        refuse(l, id, "no slot is free");
        return;
    }
    int err = read_head(job, m->head);
    if (err == 0 && m->bytes.n) err = buffer_append_slice(&job->body, m->bytes);
    job->body_ended = m->kind == W1_JOB;
    bool taken = err == 0 && session_take(job);
    if (!taken) {
        session_detach(job);
        job_release(job);
        refuse(l, id, err == 0 ? "this service is not offered here" : weir_strerror(err));
        return;
    }
    if (m->kind == W1_HEAD) {
        char text[SLICE_U64];
        say_job(job, W1_MORE, slice_from_u64(text, WORKER_WINDOW - W1_BODY_MAX), none);
    }
}

static struct weir_job *find_job(struct uplink *l, struct slice id) {
    LIST_FOR (node, &l->jobs) {
        struct weir_job *job = CONTAINER_OF(node, struct weir_job, link_node);
        if (slice_eq(head_get(&job->head, HEAD_WEIR_JOB), id)) return job;
    }
    return NULL;
}

static void heard_of_job(struct uplink *l, const struct w1 *m, struct slice id) {
    struct weir_job *job = find_job(l, id);
    if (!job) return; /* it has ended here */
    switch (m->kind) {
    case W1_BODY:
        if (job->handled)
            consumed(job, m->bytes.n);
        else if (buffer_append_slice(&job->body, m->bytes) != 0)
            job->body_cut = true;
        break;
    case W1_END:
        job->body_ended = true;
        break;
    case W1_MORE:
        job->credit += m->number;
        if (job->begun || job->handled) send_more(job);
        break;
    default: /* CANCEL */
        job_cancel(job);
        if (job->handled) give_up(job);
    }
    job_changed(job);
    job_release(job);
}

static void heard_error(struct uplink *l, struct slice text) {
    char why[256];
    snprintf(why, sizeof(why), "%.*s", SLICE_ARG(text));
    if (l->state == UPLINK_OPEN && !slice_eq(text, SLICE("not attached")))
        worker_log(l->worker, "%s: the hub says: %s", l->name, why);
    else
        uplink_close(l, why);
}

static void heard(struct uplink *l, const struct w1 *m, struct slice first) {
    l->pings_missed = 0;
    if (m->kind != W1_ERROR && l->state == UPLINK_UPGRADING) uplink_opened(l);
    switch (m->kind) {
    case W1_JOB:
    case W1_HEAD:
        heard_job(l, m, first);
        break;
    case W1_PING:
        say(l, W1_PONG, NULL, 0);
        break;
    case W1_ERROR:
        heard_error(l, m->text);
        break;
    case W1_PONG:
        break;
    case W1_BYE: /* the answer; else it drains, and is there until it knows us no more */
        parted(l);
        break;
    default:
        heard_of_job(l, m, first);
    }
}

/* Returns false when there is no message. */
static bool receive(struct uplink *l) {
    zmq_msg_t parts[W1_FRAMES];
    struct slice frames[W1_FRAMES];
    unsigned count = 0, i;
    int more = 1;
    while (more) {
        zmq_msg_t surplus, *part = count < W1_FRAMES ? &parts[count] : &surplus;
        zmq_msg_init(part);
        if (zmq_msg_recv(part, l->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(part);
            break;
        }
        more = zmq_msg_more(part);
        if (part == &surplus) {
            zmq_msg_close(part);
            continue;
        }
        frames[count++] = (struct slice){zmq_msg_data(part), zmq_msg_size(part)};
    }
    struct w1 m;
    const char *why;
    if (count > 0 && w1_parse(frames, count, false, &m, &why) == 0)
        heard(l, &m, count > 2 ? frames[2] : none);
    for (i = 0; i < count; i++) zmq_msg_close(&parts[i]);
    return count > 0;
}

/* ---- the connection ---- */

static int set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof(value));
}

static int set_curve(struct uplink *l) {
    struct weir_worker *w = l->worker;
    if (!w->hub_key[0]) return 0;
    return zmq_setsockopt(l->socket, ZMQ_CURVE_SERVERKEY, w->hub_key, 41) |
           zmq_setsockopt(l->socket, ZMQ_CURVE_PUBLICKEY, w->zmq_public, 41) |
           zmq_setsockopt(l->socket, ZMQ_CURVE_SECRETKEY, w->zmq_secret, 41);
}

static int say_ready(struct uplink *l) {
    struct weir_worker *w = l->worker;
    struct buffer services;
    char text[SLICE_U64];
    buffer_init(&services);
    int err = 0;
    for (size_t i = 0; i < w->service_count && err == 0; i++)
        err = buffer_printf(&services, "%s%s", i ? "," : "", w->services[i].name);
    l->announced = session_slots(w);
    struct slice more[] = {slice_of(w->id), buffer_slice(&services), slice_from_u64(text, l->announced),
                           slice_of(w->labels), slice_of(w->token)};
    if (err == 0) say(l, W1_READY, more, w->token[0] ? 5 : 4);
    buffer_fini(&services);
    return err;
}

static int open_socket(struct uplink *l) {
    struct weir_worker *w = l->worker;
    size_t size = sizeof(l->fd);
    if (!w->zmq_context && !(w->zmq_context = zmq_ctx_new())) return WEIR_ENOMEM;
    l->socket = zmq_socket(w->zmq_context, ZMQ_DEALER);
    if (!l->socket || set_int(l->socket, ZMQ_SNDHWM, 0) || set_int(l->socket, ZMQ_LINGER, LINGER_MS) ||
        set_int(l->socket, ZMQ_IPV6, strchr(l->endpoint, '[') != NULL) || set_curve(l) ||
        zmq_getsockopt(l->socket, ZMQ_FD, &l->fd, &size) || zmq_connect(l->socket, l->endpoint))
        return WEIR_ECONNECT;
    return say_ready(l);
}

static void dial(struct uplink *l) {
    int err = open_socket(l);
    l->state = UPLINK_UPGRADING;
    l->due_ms = worker_now_ms() + DIAL_LIMIT_MS;
    l->readable = true;
    if (err != 0) uplink_close(l, err == WEIR_ECONNECT ? zmq_strerror(errno) : weir_strerror(err));
}

static short events_wanted(const struct uplink *l) {
    return l->socket ? POLLIN : 0;
}

static void step(struct uplink *l, short events) {
    if (!l->socket || (!events && !l->readable)) return;
    l->readable = false;
    while (l->socket && receive(l)) continue;
}

static void hang_up(struct uplink *l) {
    if (!l->socket) return;
    parted(l);
    if (!l->worker->draining) (void)set_int(l->socket, ZMQ_LINGER, 0); /* nobody is there to hear it */
    zmq_close(l->socket);
    l->socket = NULL;
    l->readable = l->used = false;
}

const struct transport zmq_transport = {.dial = dial,
                                        .events = events_wanted,
                                        .step = step,
                                        .flush = flush,
                                        .hang_up = hang_up,
                                        .ping = ping,
                                        .announce = announce,
                                        .leave = leave,
                                        .begin = begin,
                                        .more = send_more,
                                        .give_up = give_up,
                                        .consumed = consumed,
                                        .redirect = redirect,
                                        .progress = progress};
