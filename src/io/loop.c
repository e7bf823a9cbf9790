/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: libuv's, plus the once-per-turn hook behind which all output of the turn is written. */
#include "base/assert.h"
#include "base/clock.h"
#include "io/private.h"
#include "weir/weir.h"
#include <stdlib.h>

static void on_prepare(uv_prepare_t *prepare) {
    struct io_loop *l = prepare->data;
    io_loop_flush(l);
    l->now_us = 0; /* the next turn reads the clock anew */
}

static void on_async(uv_async_t *async) {
    struct io_loop *l = async->data;
    if (l->woken) l->woken(l->ctx);
}

static void on_linger_timer(uv_timer_t *timer) {
    struct io_loop *l = timer->data;
    uint64_t now = io_now_us(l);
    LIST_FOR(node, &l->lingering) {
        struct stream *s = CONTAINER_OF(node, struct stream, lingering);
        if (s->linger_until_us <= now) stream_close(s);
    }
    if (list_empty(&l->lingering)) uv_timer_stop(timer);
}

int io_loop_init(struct io_loop *l) {
    *l = (struct io_loop){0};
    list_init(&l->dirty);
    list_init(&l->lingering);
    l->read_buffer = malloc(IO_READ_SIZE);
    if (!l->read_buffer) return WEIR_ENOMEM;
    if (uv_loop_init(&l->uv) != 0) {
        free(l->read_buffer);
        return WEIR_ENOMEM;
    }
    if (uv_async_init(&l->uv, &l->async, on_async) != 0) {
        uv_loop_close(&l->uv);
        free(l->read_buffer);
        return WEIR_EIO;
    }
    uv_prepare_init(&l->uv, &l->prepare);
    uv_timer_init(&l->uv, &l->linger_timer);
    l->on_linger = on_linger_timer;
    l->prepare.data = l->async.data = l->linger_timer.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->async);
    uv_unref((uv_handle_t *)&l->linger_timer);
    return 0;
}

void io_loop_fini(struct io_loop *l) {
    LIST_FOR(node, &l->lingering) stream_close(CONTAINER_OF(node, struct stream, lingering));
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->async, NULL);
    uv_close((uv_handle_t *)&l->linger_timer, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    int err = uv_loop_close(&l->uv);
    ASSERT(err == 0);
    free(l->read_buffer);
}

void io_loop_run(struct io_loop *l) {
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void io_loop_stop(struct io_loop *l) {
    uv_stop(&l->uv);
}

void io_loop_wake(struct io_loop *l) {
    uv_async_send(&l->async);
}

uint64_t io_now_us(struct io_loop *l) {
    if (l->now_us == 0) l->now_us = clock_mono_ns() / 1000;
    return l->now_us;
}

void io_loop_flush(struct io_loop *l) {
    /* Writing may end requests, begin the next pipelined ones, or find peers gone: go on until all is quiet. */
    for (int round = 0; round < IO_ROUNDS; round++) {
        if (l->turn) l->turn(l->ctx);
        if (list_empty(&l->dirty)) return;
        struct list now;
        list_init(&now);
        list_splice_back(&now, &l->dirty);
        struct list *node;
        while ((node = list_pop_front(&now)) != NULL) stream_write_out(CONTAINER_OF(node, struct stream, dirty));
    }
    io_loop_wake(l); /* others' turn first */
}
