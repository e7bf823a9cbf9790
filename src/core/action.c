/* SPDX-License-Identifier: Apache-2.0 */
/* The list of what is to be done, and taking from it. See job.h. */
#include "core/state.h"
#include <stdlib.h>

void core_action_add(struct core *core, struct action *a, enum core_action_kind kind) {
    ASSERT(a->kind == CORE_NOTHING);
    a->kind = kind;
    list_push_back(&core->actions, &a->link);
}

void core_action_undo(struct action *a) {
    if (a->kind == CORE_NOTHING) return;
    list_del(&a->link);
    a->kind = CORE_NOTHING;
}

static void take_send(struct core *core, struct job *job, struct core_action *ret) {
    struct request *r = job->request;
    struct service *s = job->service;
    *ret = (struct core_action){.kind = CORE_SEND,
                                .request = r->id,
                                .job = job->id,
                                .worker = job->worker->id,
                                .port = job->worker->port,
                                .message = r->message,
                                .requester = r->requester,
                                .service = s->name,
                                .hop = job->hop,
                                .attempt = job->attempt,
                                .resend = r->given,
                                .deadline = r->deadline};
    r->given = true;
    core->stats.dispatched++;
    s->dispatched++;
    r->tenant->dispatched++;
    job->worker->dispatched++;
    core_histogram_add(&s->wait, job->sent_at - job->queued_at);
}

static void take_cancel(const struct job *job, struct core_action *ret) {
    *ret = (struct core_action){.kind = CORE_CANCEL,
                                .request = job->request_id,
                                .job = job->id,
                                .worker = job->worker->id,
                                .port = job->worker->port,
                                .cause = job->cause};
}

/* FAIL, GONE or ENDED: with it the request is over. */
static void take_fail(struct core *core, struct request *r, enum core_action_kind kind,
                      struct core_action *ret) {
    *ret = (struct core_action){
        .kind = kind, .request = r->id, .requester = r->requester, .gatherer = r->gatherer, .why = r->why};
    core->said = r->why_name;
    r->why_name = NULL;
    core_request_end(core, r);
}

bool core_next_action(struct core *core, struct core_action *ret) {
    MAGIC_CHECK(core, CORE_MAGIC);
    free(core->said);
    core->said = NULL;
    struct list *link = list_pop_front(&core->actions);
    if (!link) return false;
    struct action *a = CONTAINER_OF(link, struct action, link);
    enum core_action_kind kind = a->kind;
    a->kind = CORE_NOTHING;
    if (kind == CORE_SEND)
        take_send(core, CONTAINER_OF(a, struct job, action), ret);
    else if (kind == CORE_CANCEL)
        take_cancel(CONTAINER_OF(a, struct job, action), ret);
    else
        take_fail(core, CONTAINER_OF(a, struct request, action), kind, ret);
    return true;
}
