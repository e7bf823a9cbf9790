/* SPDX-License-Identifier: Apache-2.0 */
#include "core/resize.h"
#include "weir/weir.h"

const char *resize_phase_text(enum resize_phase phase) {
    static const char *const texts[] = {
        [RESIZE_STABLE] = "stable", [RESIZE_PREPARE] = "prepare", [RESIZE_SYNCHRONISE] = "synchronise"};
    return (unsigned)phase < 3 ? texts[phase] : "unknown";
}

void resize_fini(struct resize *r) {
    ring_free(&r->ring);
}

static void hold(struct resize *r, unsigned slice, bool on) {
    uint64_t bit = UINT64_C(1) << slice % 64;
    if (on == resize_holds(r, slice)) return;
    r->holds[slice / 64] ^= bit;
    r->held += on ? 1 : -1u;
}

int resize_propose(struct resize *r, const struct ring_member *members, size_t n) {
    struct ring *ring;
    int err = ring_make(members, n, &ring);
    if (err != 0) return err;
    ring_free(&r->ring);
    r->ring = ring;
    r->epoch++;
    r->phase = RESIZE_PREPARE;
    for (unsigned s = 0; s < RING_SLICES; s++) hold(r, s, ring_owner(ring, s) != r->owners[s]);
    r->moved = r->held;
    return 0;
}

static void commit(struct resize *r) {
    if (r->held == 0) r->phase = RESIZE_STABLE;
}

int resize_prepared(struct resize *r, uint64_t epoch) {
    if (epoch != r->epoch || r->phase != RESIZE_PREPARE) return WEIR_ESTATE;
    r->phase = RESIZE_SYNCHRONISE;
    commit(r);
    return 0;
}

int resize_synced(struct resize *r, uint64_t epoch, unsigned slice) {
    if (epoch != r->epoch || r->phase != RESIZE_SYNCHRONISE || !resize_holds(r, slice)) return WEIR_ESTATE;
    r->changes += r->owners[slice] != 0;
    r->owners[slice] = ring_owner(r->ring, slice);
    hold(r, slice, false);
    commit(r);
    return 0;
}

unsigned resize_next_held(const struct resize *r, unsigned from) {
    for (unsigned word = from / 64; word < RING_SLICES / 64; word++) {
        uint64_t bits = r->holds[word];
        if (word == from / 64) bits &= ~UINT64_C(0) << from % 64;
        if (bits) return word * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return RING_SLICES;
}
