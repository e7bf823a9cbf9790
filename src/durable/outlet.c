/* SPDX-License-Identifier: Apache-2.0 */
#include "durable/outlet.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <stdlib.h>

enum { WINDOW = 256 * 1024, READ = 128 * 1024 };

/* Reads one blob. It has a reference on the body until it has all been written, or nobody wants the rest. */
struct outlet {
    struct store *store;
    struct body *body;
    struct store_op op;
    uint64_t blob, at, size;
    uint32_t shard;
    bool busy;
};

static void on_read(struct store_op *op);

static void close_outlet(struct outlet *o) {
    body_producer(o->body, (struct body_side){0});
    body_unref(o->body);
    free(o);
}

static void go_on(struct outlet *o) {
    if (o->busy) return;
    if (body_abandoned(o->body) || body_error(o->body) != 0 || body_ended(o->body)) {
        close_outlet(o);
        return;
    }
    if (body_room(o->body) == 0) return;
    store_op_init(&o->op, STORE_BLOB_READ, on_read);
    o->op.shard = o->shard;
    o->op.blob = o->blob;
    o->op.after = o->at;
    o->op.limit = READ;
    o->busy = true;
    store_submit(o->store, &o->op);
}

static void on_read(struct store_op *op) {
    struct outlet *o = CONTAINER_OF(op, struct outlet, op);
    int err = op->err;
    size_t n = op->ret_bytes.n;
    bool cut = err != 0 || n == 0;
    if (!cut) cut = body_write(o->body, op->ret_bytes.p, n) == WEIR_ENOMEM;
    store_op_fini(op);
    o->at += n;
    if (cut)
        body_abort(o->body, WEIR_EIO);
    else if (o->at >= o->size)
        body_end(o->body);
    o->busy = false; /* only now: body_write wakes the consumer, which may call back */
    go_on(o);
}

static void on_consumed(void *ctx, size_t n) {
    (void)n;
    struct outlet *o = ctx;
    if (!o->busy && !body_ended(o->body)) go_on(o);
}

int outlet_open(struct store *store, uint32_t shard, const struct store_body *from, struct body **ret) {
    bool empty = !from->blob && from->bytes.n == 0;
    if (empty) {
        *ret = NULL;
        return 0;
    }
    struct body *b = from->blob ? body_new(WINDOW, 0) : body_whole(from->bytes, from->bytes.n);
    if (!b) return WEIR_ENOMEM;
    if (!from->blob) {
        *ret = b;
        return 0;
    }
    struct outlet *o = malloc(sizeof(*o));
    if (!o) {
        body_unref(b);
        return WEIR_ENOMEM;
    }
    *o = (struct outlet){
        .store = store, .body = body_ref(b), .blob = from->blob, .size = from->size, .shard = shard};
    body_producer(b, (struct body_side){on_consumed, o});
    go_on(o);
    *ret = b;
    return 0;
}
