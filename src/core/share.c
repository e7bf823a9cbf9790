/* SPDX-License-Identifier: Apache-2.0 */
#include "core/share.h"
#include "core/state.h"

/* Of the newest jobs of the largest share, so many are looked at for one that may go. */
enum { LOOKED_AT = 64 };

static bool is_larger(const void *a, const void *b) {
    return ((const struct share *)a)->count > ((const struct share *)b)->count;
}

static size_t *place(void *item) {
    return &((struct share *)item)->heap_at;
}

void core_shares_init(struct service *s) {
    heap_init(&s->shares, is_larger, place);
}

static struct share *share_of(const struct service *s, const struct tenant *t) {
    LIST_FOR (node, &t->shares) {
        struct share *share = CONTAINER_OF(node, struct share, link);
        if (share->service == s) return share;
    }
    return NULL;
}

/* The first of its tenant from now on: it is asked for again soon. */
static struct share *share_get(struct core *core, struct service *s, struct tenant *t) {
    uint64_t id;
    struct share *share = share_of(s, t);
    if (share) {
        list_del(&share->link);
    } else {
        share = slab_new(&core->shares, &id);
        if (!share) return NULL;
        *share = (struct share){.service = s, .heap_at = HEAP_NOWHERE, .id = id};
        list_init(&share->jobs);
    }
    list_push_front(&t->shares, &share->link);
    return share;
}

static void resized(struct share *share) {
    if (share->count > 0)
        (void)heap_update(&share->service->shares, share);
    else
        heap_remove(&share->service->shares, share);
}

void core_share_enter(struct core *core, struct job *job) {
    struct share *share = share_get(core, job->service, job->request->tenant);
    job->share = share;
    if (!share) return;
    list_push_back(&share->jobs, &job->share_link);
    share->count++;
    resized(share);
}

void core_share_leave(struct core *core, struct job *job) {
    struct share *share = job->share;
    job->share = NULL;
    if (!share) return;
    list_del(&job->share_link);
    share->count--;
    resized(share);
    if (share->count > 0) return;
    list_del(&share->link);
    slab_free(&core->shares, share->id);
}

struct job *core_share_surplus(const struct service *s, const struct tenant *t, unsigned priority) {
    const struct share *most = heap_first(&s->shares), *own = share_of(s, t);
    size_t mine = own ? own->count : 0, tenants = s->shares.count + !own;
    if (!most || most == own || (mine + 1) * tenants > s->queued) return NULL;
    const struct list *node = most->jobs.prev;
    for (int i = 0; i < LOOKED_AT && node != &most->jobs; i++, node = node->prev) {
        struct job *job = CONTAINER_OF(node, struct job, share_link);
        bool part = job->request->patient && !job->request->durable; /* who pushes that out loses its work */
        if (job->priority >= priority && job->order >= 0 && !part) return job;
    }
    return NULL;
}
