/* SPDX-License-Identifier: Apache-2.0 */
/* The model's memory, blobs and configuration. */
#include "model_state.h"
#include <stdlib.h>

/* ---- memory ---- */

void *model_alloc(void *old, size_t size) {
    void *p = realloc(old, size ? size : 1);
    if (!p) abort();
    return p;
}

void *model_insert(void *array, size_t *count, size_t at, size_t size) {
    char *p = model_alloc(array, (*count + 1) * size);
    memmove(p + (at + 1) * size, p + at * size, (*count - at) * size);
    memset(p + at * size, 0, size);
    ++*count;
    return p;
}

void model_remove(void *array, size_t *count, size_t at, size_t size) {
    char *p = array;
    --*count;
    memmove(p + at * size, p + (at + 1) * size, (*count - at) * size);
}

void own_free(struct slice *s) {
    free((void *)(uintptr_t)s->p);
    *s = (struct slice){NULL, 0};
}

void own_set(struct slice *s, struct slice value) {
    char *p = model_alloc(NULL, value.n);
    if (value.n) memcpy(p, value.p, value.n);
    own_free(s);
    *s = (struct slice){p, value.n};
}

void *out_alloc(struct store_op *op, size_t size) {
    void *p = arena_alloc(&op->memory, size);
    if (!p) abort();
    return p;
}

struct slice out_copy(struct store_op *op, struct slice s) {
    struct slice copy = arena_copy(&op->memory, s);
    if (!copy.p) abort();
    return copy;
}

struct store_body out_body(const struct model *m, struct store_op *op, const struct store_body *body) {
    if (body->blob) return (struct store_body){.blob = body->blob, .size = blob_find(m, body->blob)->bytes.n};
    return (struct store_body){.bytes = out_copy(op, body->bytes)};
}

struct store_message out_message(const struct model *m, struct store_op *op,
                                 const struct store_message *message) {
    return (struct store_message){.head = out_copy(op, message->head),
                                  .body = out_body(m, op, &message->body)};
}

/* ---- blobs ---- */

struct model_blob *blob_find(const struct model *m, uint64_t id) {
    for (size_t i = 0; i < m->blob_count; i++)
        if (m->blobs[i].id == id) return &m->blobs[i];
    return NULL;
}

static void blob_remove(struct model *m, struct model_blob *b) {
    own_free(&b->bytes);
    MODEL_REMOVE(m->blobs, m->blob_count, (size_t)(b - m->blobs));
}

int body_check(const struct model *m, const struct store_body *body) {
    if (body->blob == 0) return 0;
    const struct model_blob *b = blob_find(m, body->blob);
    if (!b || b->referred) return WEIR_ENOTFOUND;
    return b->closed ? 0 : WEIR_ESTATE;
}

void body_discard(struct model *m, const struct store_body *body) {
    if (body->blob && body_check(m, body) == 0) blob_remove(m, blob_find(m, body->blob));
}

void body_take(struct model *m, struct store_body *dst, const struct store_body *src) {
    *dst = (struct store_body){.blob = src->blob};
    if (src->blob)
        blob_find(m, src->blob)->referred = true;
    else
        own_set(&dst->bytes, src->bytes);
}

void body_let_go(struct model *m, struct store_body *body) {
    if (body->blob) blob_find(m, body->blob)->referred = false;
    body->blob = 0;
}

void body_drop(struct model *m, struct store_body *body) {
    own_free(&body->bytes);
    if (body->blob) blob_remove(m, blob_find(m, body->blob));
    *body = (struct store_body){0};
}

void blob_drop_loose(struct model *m) {
    for (size_t i = m->blob_count; i-- > 0;)
        if (!m->blobs[i].referred) blob_remove(m, &m->blobs[i]);
}

static int blob_new(struct model *m, struct store_op *op) {
    MODEL_INSERT(m->blobs, m->blob_count, m->blob_count);
    op->blob = m->blobs[m->blob_count - 1].id = ++m->last_blob;
    return 0;
}

static int blob_write(struct model *m, struct model_blob *b, const struct store_op *op) {
    if (b->closed) return WEIR_ESTATE;
    char *p = model_alloc((void *)(uintptr_t)b->bytes.p, b->bytes.n + op->bytes.n);
    if (op->bytes.n) memcpy(p + b->bytes.n, op->bytes.p, op->bytes.n);
    b->bytes = (struct slice){p, b->bytes.n + op->bytes.n};
    if (mutant(m, MODEL_BLOB_SHORT) && ++b->writes % 4 == 0 && b->bytes.n) b->bytes.n--;
    return 0;
}

static int blob_close(struct model_blob *b) {
    if (b->closed) return WEIR_ESTATE;
    b->closed = true;
    return 0;
}

static int blob_read(const struct model_blob *b, struct store_op *op) {
    if (op->after >= b->bytes.n) return 0;
    size_t n = b->bytes.n - op->after;
    if (n > op->limit) n = op->limit;
    op->ret_bytes = out_copy(op, (struct slice){b->bytes.p + op->after, n});
    return 0;
}

static int blob_drop(struct model *m, struct model_blob *b) {
    if (b->referred) return WEIR_ENOTFOUND;
    blob_remove(m, b);
    return 0;
}

int model_blob_apply(struct model *m, struct store_op *op) {
    if (op->kind == STORE_BLOB_NEW) return blob_new(m, op);
    struct model_blob *b = blob_find(m, op->blob);
    if (!b) return WEIR_ENOTFOUND;
    if (op->kind == STORE_BLOB_WRITE) return blob_write(m, b, op);
    if (op->kind == STORE_BLOB_CLOSE) return blob_close(b);
    if (op->kind == STORE_BLOB_READ) return blob_read(b, op);
    return blob_drop(m, b);
}

/* ---- configuration ---- */

static struct model_value *value_find(const struct model *m, struct slice key) {
    for (size_t i = 0; i < m->value_count; i++)
        if (slice_eq(m->values[i].key, key)) return &m->values[i];
    return NULL;
}

int model_conf_apply(struct model *m, struct store_op *op) {
    struct model_value *v = value_find(m, op->key);
    if (op->kind == STORE_CONF_GET) {
        if (!v) return WEIR_ENOTFOUND;
        op->revision = v->revision;
        op->ret_value = out_copy(op, v->value);
        return 0;
    }
    if (op->revision != (v ? v->revision : 0) && !mutant(m, MODEL_CONF_ANY_REVISION)) return WEIR_ECONFLICT;
    if (!v) {
        MODEL_INSERT(m->values, m->value_count, m->value_count);
        v = &m->values[m->value_count - 1];
        own_set(&v->key, op->key);
    }
    own_set(&v->value, op->value);
    op->revision = ++v->revision;
    return 0;
}
