/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/exchange.h"
#include "weir/weir.h"
#include "wire/http1.h"

unsigned job_fields(const struct core_action *job, uint64_t now, char text[JOB_TEXTS][SLICE_U64],
                    struct job_field ret[JOB_FIELDS]) {
    ret[0] = (struct job_field){SLICE("weir-job"), slice_from_hex(text[0], job->job), true};
    ret[1] = (struct job_field){SLICE("weir-service"), job->service, false};
    ret[2] = (struct job_field){SLICE("weir-hop"), slice_from_u64(text[1], job->hop), false};
    ret[3] = (struct job_field){SLICE("weir-attempt"), slice_from_u64(text[2], job->attempt), false};
    if (job->deadline == 0) return 4;
    uint64_t left = job->deadline > now ? (job->deadline - now) / 1000 : 0;
    ret[4] = (struct job_field){SLICE("weir-deadline-ms"), slice_from_u64(text[3], left), true};
    return 5;
}

static void put(struct http_head *head, struct slice name, struct slice value) {
    head->fields[head->count++] = (struct head_field){
        .name = name.p, .value = value.p, .name_size = (uint16_t)name.n, .value_size = (uint32_t)value.n};
}

int job_write(const struct core_action *job, uint64_t now, char text[JOB_TEXTS][SLICE_U64],
              struct slice more_name, struct slice more_value, struct buffer *out) {
    const struct http_head *from = &((const struct message *)job->message)->head;
    struct head_field fields[256 + 2 + JOB_FIELDS];
    struct http_head head = {.method = from->method, .target = from->target, .fields = fields};
    struct slice host = head_get(from, HEAD_HOST);
    put(&head, SLICE("host"), host.n ? host : job->service);
    for (unsigned i = 0; i < from->count; i++)
        if (from->fields[i].id != HEAD_HOST) fields[head.count++] = from->fields[i];
    struct job_field own[JOB_FIELDS];
    unsigned n = job_fields(job, now, text, own);
    for (unsigned i = 0; i < n; i++) put(&head, own[i].name, own[i].value);
    if (more_name.n) put(&head, more_name, more_value);
    return http1_write_request(out, &head);
}

void exchange_begin(struct exchange *x, struct exchange_config *config, const struct core_action *send) {
    *x = (struct exchange){
        .config = config, .worker = send->worker, .job = send->job, .message = message_ref(send->message)};
}

static void drop_body(struct exchange *x) {
    gathers_release(&x->config->gathers, buffer_size(&x->scattered));
    buffer_reset(&x->scattered);
    if (!x->body) return;
    body_producer(x->body, (struct body_side){0});
    body_unref(x->body);
    x->body = NULL;
}

void exchange_fini(struct exchange *x) {
    drop_body(x);
    message_unref(x->message);
    x->message = NULL;
    x->state = EXCHANGE_OVER;
}

/* That its body can be taken apart is known before it comes. */
static int check_scatter(const struct http_head *head, const char **ret_why) {
    char boundary[MULTIPART_BOUNDARY];
    if (multipart_boundary(head_get(head, HEAD_CONTENT_TYPE), boundary, ret_why) == 0) return 0;
    return WEIR_EBADANSWER;
}

static int begin_reply(struct exchange *x, uint64_t now, struct http_head *head) {
    struct requester *r = core_job_answer(x->config->core, now, x->worker, x->job);
    if (!r) {
        x->state = EXCHANGE_OVER;
        drop_body(x);
        return 0;
    }
    x->state = EXCHANGE_REPLYING;
    if (x->message->body) body_forget(x->message->body); /* from here on there is no retry */
    r->ops->reply(r, head, x->body);
    return 0;
}

/* detail: a fixed text, or NULL. */
static void fail(struct exchange *x, uint64_t now, int error, const char *detail) {
    struct failure why = {.error = error, .detail = error == WEIR_ENOMEM ? NULL : detail};
    core_job_fail(x->config->core, now, x->worker, x->job, &why);
}

/* Hands the gathered (or, when it is large, the still growing) body on to the next hop. */
static void go_on(struct exchange *x, uint64_t now) {
    struct body *body = x->body ? body_ref(x->body) : NULL;
    struct message *next;
    int err = message_forward(x->message, x->answer.target, x->answer_head, body, &next);
    x->state = EXCHANGE_OVER;
    if (err != 0) {
        struct failure why = gather_hop_failure(err);
        body_unref(body);
        core_job_fail(x->config->core, now, x->worker, x->job, &why);
        return;
    }
    struct requester *r = core_job_hand_over(x->config->core, now, x->worker, x->job);
    if (r) {
        r->ops->forward(r, &(struct requester_hop){
                               .service = x->answer.service, .message = next, .cost = x->answer.cost});
        return;
    }
    size_t bytes = next->arena.used + (body ? body_held(body) : 0);
    struct core_hop hop = {x->answer.service, next, bytes, x->answer.cost};
    if (core_job_forward(x->config->core, now, x->worker, x->job, &hop) != 0) message_unref(next);
}

bool exchange_bodyless(const struct exchange *x, unsigned status) {
    return status == 204 || status == 304 || slice_eq(x->message->head.method, SLICE("HEAD"));
}

void exchange_interim(struct exchange *x, uint64_t now, const struct http_head *head) {
    struct slice progress = head_get(head, HEAD_WEIR_PROGRESS);
    if (!progress.p || x->state != EXCHANGE_AWAITING) return;
    struct requester *r = core_job_requester(x->config->core, now, x->worker, x->job);
    if (r && r->ops->progress) r->ops->progress(r, progress);
}

int exchange_head(struct exchange *x, uint64_t now, struct http_head *head, bool ended, size_t window,
                  struct body_side producer, const char **ret_why) {
    if (x->state == EXCHANGE_OVER) return 0;
    if (x->state != EXCHANGE_AWAITING) {
        *ret_why = "a second answer";
        return WEIR_EBADANSWER;
    }
    int err = answer_parse(head, &x->answer, ret_why);
    if (err == 0 && x->answer.kind == ANSWER_SCATTER) err = check_scatter(head, ret_why);
    if (err != 0) {
        /* It was answered, and would be answered so again: no retry. */
        x->state = EXCHANGE_OVER;
        fail(x, now, err, *ret_why);
        return err;
    }
    if (head_has(head, HEAD_WEIR_LABELS))
        (void)core_worker_labels(x->config->core, now, x->worker, head_get(head, HEAD_WEIR_LABELS));
    head_strip_hop_by_hop(head);
    x->answer_head = head;
    if (x->answer.kind == ANSWER_SCATTER) {
        x->state = EXCHANGE_SCATTERING;
        return 0;
    }
    bool forward = x->answer.kind == ANSWER_FORWARD;
    if (!ended && (forward || !exchange_bodyless(x, head->status))) {
        /* A forwarded body is gathered up to the window: beyond that the worker could not send on anyway. */
        size_t high = forward && x->config->buffered_body < window ? x->config->buffered_body : window;
        x->body = body_new(high, forward ? x->config->buffered_body : 0);
        if (!x->body) return WEIR_ENOMEM;
        body_producer(x->body, producer);
    }
    if (!forward) {
        head_strip_weir(head, HEAD_NAME_COUNT);
        return begin_reply(x, now, head);
    }
    x->state = EXCHANGE_FORWARDING;
    return 0;
}

static void scatter_data(struct exchange *x, uint64_t now, const char *bytes, size_t n) {
    struct gathers *g = &x->config->gathers;
    int err = gathers_hold(g, buffer_size(&x->scattered), n) ? 0 : WEIR_ETOOBIG;
    if (err == 0 && buffer_append(&x->scattered, bytes, n) != 0) {
        gathers_release(g, n);
        err = WEIR_ENOMEM;
    }
    if (err == 0) return;
    x->state = EXCHANGE_OVER;
    drop_body(x);
    fail(x, now, err == WEIR_ETOOBIG ? WEIR_EPARTS : err, "a worker scattered more bytes than max-gather");
}

/* Of a durable job: the scattered hop is stored first. */
static int hand_over_scatter(struct exchange *x, uint64_t now, const char *boundary, const char **ret_why) {
    struct slice bytes = buffer_slice(&x->scattered);
    size_t count;
    struct message *next;
    int err = gather_count(bytes, slice_of(boundary), &count, ret_why);
    if (err != 0) return err;
    struct body *body = body_whole(bytes, 0);
    if (!body) return WEIR_ENOMEM;
    err = message_forward(x->message, (struct slice){0}, x->answer_head, body, &next);
    if (err != 0) {
        body_unref(body);
        return err;
    }
    struct requester *r = core_job_hand_over(x->config->core, now, x->worker, x->job);
    if (r)
        r->ops->forward(r, &(struct requester_hop){.service = x->answer.service,
                                                   .message = next,
                                                   .scatter = true,
                                                   .gather = x->answer.gather});
    else
        message_unref(next); /* too late */
    return 0;
}

/* The body is whole: the parts are on their own. */
static void scatter(struct exchange *x, uint64_t now) {
    char boundary[MULTIPART_BOUNDARY];
    const char *why = NULL;
    struct gather_job job = {x->worker, x->job, x->message, &x->answer, boundary};
    x->state = EXCHANGE_OVER;
    int err = multipart_boundary(head_get(x->answer_head, HEAD_CONTENT_TYPE), boundary, &why);
    if (err == 0 && core_job_durable(x->config->core, x->worker, x->job))
        err = hand_over_scatter(x, now, boundary, &why);
    else if (err == 0)
        err = gather_start(&x->config->gathers, now, &job, &x->scattered, &why);
    if (err == 0 || err == WEIR_ESTATE || err == WEIR_EPARTS) return;
    struct failure failure = gather_hop_failure(err);
    if (err == WEIR_ENOMEM || err == WEIR_EHEADTOOBIG)
        core_job_fail(x->config->core, now, x->worker, x->job, &failure);
    else
        fail(x, now, WEIR_EBADANSWER, why);
}

bool exchange_data(struct exchange *x, uint64_t now, const char *bytes, size_t n) {
    if (x->state == EXCHANGE_SCATTERING) scatter_data(x, now, bytes, n);
    if (!x->body) return false;
    int err = body_write(x->body, bytes, n);
    if (err == WEIR_ENOMEM) {
        body_abort(x->body, WEIR_ENOMEM);
        return false;
    }
    if (x->state == EXCHANGE_FORWARDING && body_room(x->body) == 0) go_on(x, now);
    return err == 0;
}

void exchange_end(struct exchange *x, uint64_t now) {
    if (x->body) body_end(x->body);
    if (x->state == EXCHANGE_REPLYING) core_job_done(x->config->core, now, x->worker, x->job);
    if (x->state == EXCHANGE_FORWARDING) go_on(x, now);
    if (x->state == EXCHANGE_SCATTERING) scatter(x, now);
    x->state = EXCHANGE_OVER;
    drop_body(x);
}

void exchange_handed_back(struct exchange *x, uint64_t now) {
    if (x->state != EXCHANGE_AWAITING) {
        exchange_lost(x, now);
        return;
    }
    x->state = EXCHANGE_OVER;
    core_job_handed_back(x->config->core, now, x->worker, x->job);
}

void exchange_cut(struct exchange *x) {
    x->state = EXCHANGE_OVER;
    if (x->body) body_abort(x->body, WEIR_ECUT);
    drop_body(x);
}

void exchange_fail(struct exchange *x, uint64_t now, int error) {
    bool over = x->state == EXCHANGE_OVER;
    exchange_cut(x);
    if (!over) fail(x, now, error, NULL);
}

void exchange_lost(struct exchange *x, uint64_t now) {
    bool over = x->state == EXCHANGE_OVER;
    exchange_cut(x);
    if (over)
        core_slot_free(x->config->core, now, x->worker, x->job);
    else
        core_job_lost(x->config->core, now, x->worker, x->job);
}

void exchange_cancelled(struct exchange *x) {
    x->state = EXCHANGE_OVER;
    drop_body(x);
}
