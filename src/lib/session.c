/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the transports share: how many slots there are, and jobs from their head to their answer.
 *
 * A job whose stream is gone while its handler runs is a zombie: it holds a slot that its hub does not know
 * of.
 */
#include "lib/redirect.h"
#include "lib/worker.h"

unsigned session_slots(const struct weir_worker *w) {
    if (w->draining) return 0;
    unsigned slots = w->slots < w->gate_limit ? w->slots : w->gate_limit;
    return slots > w->zombies ? slots - w->zombies : 0;
}

bool session_room(const struct weir_worker *w) {
    return w->busy < w->slots && w->busy < w->gate_limit && !w->draining;
}

void session_announce_all(struct weir_worker *w) {
    for (size_t i = 0; i < w->link_count; i++)
        if (w->links[i].state == UPLINK_OPEN) w->links[i].via->announce(&w->links[i]);
}

/* ---- a job comes in ---- */

int session_field(struct weir_job *job, struct slice name, struct slice value) {
    enum head_name id = head_name_id(name);
    struct slice text = id != HEAD_OTHER ? head_name_text(id) : arena_copy(&job->arena, name);
    struct slice kept = arena_copy(&job->arena, value);
    return text.p && kept.p ? head_add_name(&job->head, &job->arena, text, kept) : WEIR_ENOMEM;
}

static struct service *find_service(struct weir_worker *w, struct slice name) {
    for (size_t i = 0; i < w->service_count; i++)
        if (slice_eq(slice_of(w->services[i].name), name)) return &w->services[i];
    return NULL;
}

bool session_take(struct weir_job *job) {
    struct weir_worker *w = job->worker;
    job->service = find_service(w, head_get(&job->head, HEAD_WEIR_SERVICE));
    if (!job->service) return false;
    job->handled = false;
    list_push_back(&w->ready, &job->ready);
    w->ready_count++;
    w->busy++;
    return true;
}

void session_detach(struct weir_job *job) {
    if (!job->has_stream) return;
    list_del(&job->link_node);
    job->has_stream = false;
    job->link = NULL;
    job->worker->streams--;
}

void session_lost(struct weir_job *job) {
    session_detach(job);
    if (job->handled || job->redirect) return;
    job_cancel(job);
    job->zombie = true;
    job->worker->zombies++;
}

void session_stop(struct uplink *l) {
    LIST_FOR (node, &l->jobs) {
        struct weir_job *job = CONTAINER_OF(node, struct weir_job, link_node);
        session_lost(job);
        job_release(job);
    }
    LIST_FOR (node, &l->resets) { /* the hub does not know of their slots any more */
        struct weir_job *job = CONTAINER_OF(node, struct weir_job, link_node);
        list_del(node);
        job->reset_by = NULL;
        job->zombie = true;
        l->worker->zombies++;
    }
    l->state = UPLINK_CLOSED;
    session_announce_all(l->worker);
}

/* ---- an answer goes out ---- */

uint64_t session_length(const struct weir_job *job, bool *ret_known) {
    bool own = job->has_length && (slice_eq(job->head.method, SLICE("HEAD")) || job->streaming);
    *ret_known = own || job->length_known;
    return own ? job->length : buffer_size(&job->out);
}

int session_redirect(struct weir_job *job, const char *location) {
    struct weir_worker *w = job->worker;
    if (!job->link) return WEIR_ECANCELLED;
    /* For the hub the job ends here. Its slot is taken out first. */
    job->zombie = true;
    w->zombies++;
    session_announce_all(w);
    job->begun = job->answered = job->ended = true;
    return job->link->via->redirect(job, location);
}

void session_answer(struct weir_job *job) {
    struct weir_worker *w = job->worker;
    redirect_over(job);
    job->handled = true;
    if (job->reset_by) http2_returned(job);
    if (job->zombie) {
        w->zombies--;
        session_announce_all(w);
    }
    if (job->link) {
        const struct transport *via = job->link->via;
        bool whole = job->answered && (!job->streaming || job->ended);
        int err = !whole ? WEIR_ECUT : job->begun ? 0 : via->begin(job);
        if (err == 0 && job->begun && job->link) via->more(job);
        if (err != 0) via->give_up(job);
        /* Body that the handler left unread: let it pass, or the hub could not send the stream's end. */
        size_t unread = buffer_size(&job->body);
        if (unread && job->link) via->consumed(job, unread);
        buffer_reset(&job->body);
    }
    job_release(job);
}
