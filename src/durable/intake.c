/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation of the store is under way at most once at a time; one that is under way when the intake is
 * freed keeps it alive until it has completed.
 */
#include "durable/intake.h"
#include "base/assert.h"
#include "base/buffer.h"
#include "weir/weir.h"
#include <openssl/evp.h>
#include <stdlib.h>

enum { INTAKE_MAGIC = 0x696e746b, CHUNK = 256 * 1024 };

struct intake {
    unsigned magic;
    struct intake_config config;
    struct body *body;
    struct buffer bytes; /* of a small body; of a large one what is being written */
    struct store_op op;
    EVP_MD_CTX *hash;
    unsigned char digest[STORE_HASH];
    uint64_t size, blob; /* blob 0: none (yet) */
    bool busy;           /* the operation is under way */
    bool large, closing, over, freed;
};

static void on_op(struct store_op *op);

static void submit(struct intake *in, enum store_kind kind) {
    store_op_init(&in->op, kind, on_op);
    in->op.shard = in->config.shard;
    in->op.blob = in->blob;
    in->op.bytes = buffer_slice(&in->bytes);
    in->busy = true;
    store_submit(in->config.store, &in->op);
}

static void destroy(struct intake *in) {
    if (in->blob) {
        submit(in, STORE_BLOB_DROP);
        in->blob = 0;
        return;
    }
    buffer_fini(&in->bytes);
    in->magic = 0;
    free(in);
}

static void finish(struct intake *in, int err) {
    in->over = true;
    unsigned n = STORE_HASH;
    if (err == 0 && in->hash && !EVP_DigestFinal_ex(in->hash, in->digest, &n)) err = WEIR_ENOMEM;
    EVP_MD_CTX_free(in->hash);
    in->hash = NULL;
    body_leave(&in->body);
    in->config.done(in->config.ctx, err);
}

/* Takes what the body has, as far as there is room for it. */
static int take(struct intake *in) {
    struct slice s;
    while (buffer_size(&in->bytes) < CHUNK && (s = body_peek(in->body)).n > 0) {
        if (s.n > in->config.max_bytes - in->size) return WEIR_ETOOBIG;
        if (buffer_append_slice(&in->bytes, s) != 0 || (in->hash && !EVP_DigestUpdate(in->hash, s.p, s.n)))
            return WEIR_ENOMEM;
        in->size += s.n;
        body_consume(in->body, s.n);
        in->large |= in->size > STORE_INLINE;
    }
    return body_error(in->body);
}

/* As far as it goes without waiting. */
static void go_on(struct intake *in) {
    if (in->over || in->busy) return;
    int err = in->body ? take(in) : 0;
    bool all = !in->body || body_finished(in->body);
    if (err != 0)
        finish(in, err);
    else if (!in->large && all)
        finish(in, 0);
    else if (in->large && !in->blob)
        submit(in, STORE_BLOB_NEW);
    else if (in->large && buffer_size(&in->bytes) > 0)
        submit(in, STORE_BLOB_WRITE);
    else if (all && in->closing)
        finish(in, 0);
    else if (all) {
        in->closing = true;
        submit(in, STORE_BLOB_CLOSE);
    }
}

static void on_op(struct store_op *op) {
    struct intake *in = CONTAINER_OF(op, struct intake, op);
    MAGIC_CHECK(in, INTAKE_MAGIC);
    int err = op->err;
    in->busy = false;
    if (op->kind == STORE_BLOB_NEW && err == 0) in->blob = op->blob;
    if (op->kind == STORE_BLOB_WRITE) buffer_reset(&in->bytes);
    store_op_fini(op);
    if (in->freed)
        destroy(in);
    else if (err != 0)
        finish(in, err);
    else
        go_on(in);
}

static void on_body(void *ctx, size_t n) {
    (void)n;
    struct intake *in = ctx;
    go_on(in);
}

int intake_new(const struct intake_config *config, struct body *body, struct intake **ret) {
    struct intake *in = calloc(1, sizeof(*in));
    if (!in) return WEIR_ENOMEM;
    in->magic = INTAKE_MAGIC;
    in->config = *config;
    if (config->hash) in->hash = EVP_MD_CTX_new();
    if (config->hash && (!in->hash || !EVP_DigestInit_ex(in->hash, EVP_sha256(), NULL))) {
        EVP_MD_CTX_free(in->hash);
        free(in);
        return WEIR_ENOMEM;
    }
    if (body) {
        in->body = body_ref(body);
        body_consumer(body, (struct body_side){on_body, in});
    }
    *ret = in;
    go_on(in);
    return 0;
}

struct store_body intake_peek(const struct intake *in) {
    ASSERT(in->over);
    struct store_body b = {.blob = in->blob, .size = in->blob ? in->size : 0};
    if (!in->blob) b.bytes = buffer_slice(&in->bytes);
    return b;
}

struct store_body intake_take(struct intake *in) {
    struct store_body b = intake_peek(in);
    in->blob = 0;
    return b;
}

void intake_hash(const struct intake *in, unsigned char ret[STORE_HASH]) {
    ASSERT(in->over);
    memcpy(ret, in->digest, STORE_HASH);
}

void intake_free(struct intake **at) {
    struct intake *in = *at;
    *at = NULL;
    if (!in) return;
    MAGIC_CHECK(in, INTAKE_MAGIC);
    body_leave(&in->body);
    EVP_MD_CTX_free(in->hash);
    in->hash = NULL;
    in->over = in->freed = true;
    if (!in->busy) destroy(in);
}
