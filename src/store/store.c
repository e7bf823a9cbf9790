/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

static const char *const state_texts[STORE_STATES] = {"queued", "running",   "done",
                                                      "failed", "cancelled", "dead"};

static const char *const kind_texts[STORE_KINDS] = {
    [STORE_JOB_PUT] = "job-put",
    [STORE_JOB_LEASE] = "job-lease",
    [STORE_JOB_WAKE] = "job-wake",
    [STORE_JOB_STEP] = "job-step",
    [STORE_JOB_RELEASE] = "job-release",
    [STORE_JOB_FINISH] = "job-finish",
    [STORE_JOB_REVIVE] = "job-revive",
    [STORE_JOB_GET] = "job-get",
    [STORE_JOB_LIST] = "job-list",
    [STORE_JOB_PURGE] = "job-purge",
    [STORE_JOB_LOAD] = "job-load",
    [STORE_PART_PUT] = "part-put",
    [STORE_PART_LIST] = "part-list",
    [STORE_CALLBACK_DUE] = "callback-due",
    [STORE_CALLBACK_SET] = "callback-set",
    [STORE_TOPIC_SUBSCRIBE] = "topic-subscribe",
    [STORE_TOPIC_UNSUBSCRIBE] = "topic-unsubscribe",
    [STORE_TOPIC_APPEND] = "topic-append",
    [STORE_TOPIC_READ] = "topic-read",
    [STORE_TOPIC_ACK] = "topic-ack",
    [STORE_TOPIC_LOAD] = "topic-load",
    [STORE_CONF_GET] = "conf-get",
    [STORE_CONF_SET] = "conf-set",
    [STORE_BLOB_NEW] = "blob-new",
    [STORE_BLOB_WRITE] = "blob-write",
    [STORE_BLOB_CLOSE] = "blob-close",
    [STORE_BLOB_READ] = "blob-read",
    [STORE_BLOB_DROP] = "blob-drop",
    [STORE_SWEEP] = "sweep",
};

const char *store_job_state_text(enum store_job_state state) {
    return state_texts[state];
}

const char *store_kind_text(enum store_kind kind) {
    return kind_texts[kind];
}

void store_op_init(struct store_op *op, enum store_kind kind, void (*done)(struct store_op *op)) {
    *op = (struct store_op){.kind = kind, .done = done};
    list_init(&op->link);
    arena_init(&op->memory, 0, NULL, 0);
}

void store_op_fini(struct store_op *op) {
    arena_fini(&op->memory);
    arena_init(&op->memory, 0, NULL, 0);
}

void store_close(struct store **s) {
    if (*s) (*s)->ops->close(*s);
    *s = NULL;
}

/* ---- names ---- */

static const char hex[] = "0123456789abcdef";

/* Where the 32 digits stand. */
static unsigned place(unsigned digit) {
    return digit + (digit >= 8) + (digit >= 12) + (digit >= 16) + (digit >= 20);
}

struct slice store_id_text(struct store_id id, char text[STORE_ID_TEXT]) {
    for (unsigned i = 0; i < 32; i++)
        text[place(i)] = hex[((i < 16 ? id.hi >> (60 - 4 * i) : id.lo >> (124 - 4 * i))) & 15];
    text[8] = text[13] = text[18] = text[23] = '-';
    return (struct slice){text, STORE_ID_TEXT};
}

bool store_id_parse(struct slice text, struct store_id *ret) {
    struct store_id id = {0};
    if (text.n != STORE_ID_TEXT) return false;
    if (text.p[8] != '-' || text.p[13] != '-' || text.p[18] != '-' || text.p[23] != '-') return false;
    for (unsigned i = 0; i < 32; i++) {
        int value = hex_digit(text.p[place(i)]);
        if (value < 0) return false;
        uint64_t *half = i < 16 ? &id.hi : &id.lo;
        *half = *half << 4 | (uint64_t)value;
    }
    *ret = id;
    return true;
}
