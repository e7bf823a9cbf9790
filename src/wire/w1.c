/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/w1.h"
#include "weir/weir.h"
#include "wire/head.h"

enum { FROM_W = 1, FROM_H = 2, FROM_B = FROM_W | FROM_H };

static const struct {
    struct slice text;
    unsigned char from, least, most;
    const char *frames;
} kinds[W1_KIND_COUNT] = {
#define W1_KIND_ROW(id, from, least, most, frames) {SLICE(#id), FROM_##from, least, most, frames},
    W1_KINDS(W1_KIND_ROW)
#undef W1_KIND_ROW
};

struct slice w1_text(enum w1_kind kind) {
    return kinds[kind].text;
}

/* One frame, by its letter in the table. Returns NULL, or what is wrong with it. */
static const char *take(struct w1 *w, char letter, struct slice frame) {
    switch (letter) {
    case 'j':
        return slice_hex(frame, &w->job) && w->job ? NULL : "the job's id is not one that the hub gave";
    case 'n':
        return slice_u64(frame, &w->number) ? NULL : "not a decimal number";
    case 'f':
        return slice_u64(frame, &w->number) && w->number <= 1 ? NULL : "retry is neither 0 nor 1";
    case 'i':
        w->worker = frame;
        return frame.n <= W1_ID_MAX && text_is_field_value(frame) ? NULL
                                                                  : "the worker's id is no text, or too long";
    case 's':
        w->services = frame;
        return text_is_services(frame) ? NULL : "a bad service name, or more than 64";
    case 'l':
        *(w->labels.p ? &w->token : &w->labels) = frame;
        return text_is_field_value(frame) ? NULL : "labels or token are no text";
    case 'h':
        w->head = frame;
        return NULL;
    case 'b':
        w->bytes = frame;
        return frame.n <= (w->kind == W1_REPLY ? W1_REPLY_MAX : W1_BODY_MAX)
                   ? NULL
                   : "more bytes than a frame may hold";
    default:
        w->text = frame;
        return NULL;
    }
}

int w1_parse(const struct slice *frames, unsigned count, bool from_worker, struct w1 *ret,
             const char **ret_why) {
    const char *why = NULL;
    struct w1 w = {0};
    if (count < 2 || !slice_eq(frames[0], SLICE("W1"))) {
        *ret_why = "not a W1 message";
        return WEIR_EMALFORMED;
    }
    while (w.kind < W1_KIND_COUNT && !slice_eq(kinds[w.kind].text, frames[1])) w.kind++;
    if (w.kind == W1_KIND_COUNT || !(kinds[w.kind].from & (from_worker ? FROM_W : FROM_H))) {
        *ret_why = "no message of this name";
        return WEIR_EMALFORMED;
    }
    if (count < 2u + kinds[w.kind].least || count > 2u + kinds[w.kind].most)
        why = "too few or too many frames";
    for (unsigned i = 2; i < count && !why; i++) {
        struct slice frame = {frames[i].n ? frames[i].p : "", frames[i].n}; /* p: it was there */
        why = take(&w, kinds[w.kind].frames[i - 2], frame);
    }
    if (why) {
        *ret_why = why;
        return WEIR_EMALFORMED;
    }
    *ret = w;
    return 0;
}
