/* SPDX-License-Identifier: Apache-2.0 */
/* Do tenants get their shares? While two tenants wait in the same class of the same pool, what they get, over
   their weights, never differs by more than one turn. See model.h. */
#include "model.h"

static struct mshare *share_of(struct model *m, const struct mrequest *r) {
    unsigned pools = (LABELS + 1) * (LABELS + 1);
    unsigned key = (r->service * pools + model_pool(r)) * CORE_PRIORITIES + r->priority;
    struct mshare *s = &m->shares[key];
    if (s->epoch != m->share_epoch) *s = (struct mshare){.epoch = m->share_epoch};
    return s;
}

static bool same_lane(const struct mrequest *a, const struct mrequest *b) {
    return a->place == WAITING && a->service == b->service && model_pool(a) == model_pool(b) &&
           a->priority == b->priority;
}

void share_begin(struct model *m, const struct mrequest *r) {
    struct mshare *s = share_of(m, r);
    for (unsigned t = 0; t < TENANTS; t++) {
        s->since[r->tenant][t] = s->served[r->tenant];
        s->since[t][r->tenant] = s->served[t];
    }
}

void share_served(struct model *m, const struct mrequest *r) {
    bool waits[TENANTS] = {false};
    struct mshare *s = share_of(m, r);
    FOR_REQUESTS(m, q) {
        if (q == r || !same_lane(q, r)) continue;
        if (q->unordered) return;
        waits[q->tenant] |= q->position > 0; /* what came back has had its turn */
    }
    unsigned t = r->tenant;
    s->served[t]++;
    for (unsigned u = 0; u < TENANTS; u++) {
        if (u == t || !waits[u]) continue;
        double had = (double)(s->served[t] - s->since[t][u]) / m->tenants[t].config.weight;
        double other = (double)(s->served[u] - s->since[u][t]) / m->tenants[u].config.weight;
        double most = 1.0001;
        if (had - other > most || other - had > most)
            model_violated(m, FAIR, "tenant %u has had %.2f turns in a class of %s while tenant %u had %.2f",
                           t, had, m->services[r->service].name, u, other);
    }
}
