/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: libuv's, plus the once-per-turn hook behind which all output of the turn is written. */
#include "base/assert.h"
#include "base/clock.h"
#include "io/private.h"
#include "weir/weir.h"
#include <sched.h>
#include <stdlib.h>

static void on_idle(uv_idle_t *idle) {
    (void)idle; /* it is there so that the loop looks for events without sleeping */
}

/*
 * Going to sleep and being woken costs more than handling a small event. So after a short wait the next one
 * begins with looking, for a moment (look_us), letting others run in between. A loop with little to do never
 * gets there.
 */
static void look_or_sleep(struct io_loop *l, uint64_t event_us) {
    uint64_t now = clock_mono_ns() / 1000;
    if (event_us) {
        l->hot = event_us - l->wait_us < l->look_us + IO_HOT_US;
        l->wait_us = now;
    }
    bool look = l->hot && now - l->wait_us < l->look_us;
    if (look && !event_us) sched_yield();
    if (look == l->looking) return;
    l->looking = look;
    if (look)
        uv_idle_start(&l->idle, on_idle);
    else
        uv_idle_stop(&l->idle);
}

static void on_prepare(uv_prepare_t *prepare) {
    struct io_loop *l = prepare->data;
    uint64_t event_us = l->now_us; /* 0: nothing happened in this turn */
    io_loop_flush(l);
    LIST_FOR (node, &l->sources) {
        struct io_source *s = CONTAINER_OF(node, struct io_source, node);
        s->before_sleep(s);
    }
    look_or_sleep(l, event_us);
    l->now_us = 0; /* the next turn reads the clock anew */
}

static void on_async(uv_async_t *async) {
    struct io_loop *l = async->data;
    if (l->woken) l->woken(l->ctx);
}

static void on_linger_timer(uv_timer_t *timer) {
    struct io_loop *l = timer->data;
    uint64_t now = io_now_us(l);
    LIST_FOR (node, &l->lingering) {
        struct stream *s = CONTAINER_OF(node, struct stream, lingering);
        if (s->linger_until_us <= now) stream_close(s);
    }
    if (list_empty(&l->lingering)) uv_timer_stop(timer);
}

int io_loop_init(struct io_loop *l) {
    *l = (struct io_loop){.look_us = IO_LOOK_US};
    list_init(&l->dirty);
    list_init(&l->lingering);
    list_init(&l->sources);
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
    uv_idle_init(&l->uv, &l->idle);
    uv_timer_init(&l->uv, &l->linger_timer);
    l->on_linger = on_linger_timer;
    l->prepare.data = l->async.data = l->linger_timer.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->idle);
    uv_unref((uv_handle_t *)&l->async);
    uv_unref((uv_handle_t *)&l->linger_timer);
    return 0;
}

void io_loop_fini(struct io_loop *l) {
    LIST_FOR (node, &l->lingering) stream_close(CONTAINER_OF(node, struct stream, lingering));
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
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
    /* Writing may end requests, begin the next pipelined ones, or find peers gone: go on until all is quiet.
     */
    for (int round = 0; round < IO_ROUNDS; round++) {
        if (l->turn) l->turn(l->ctx);
        if (list_empty(&l->dirty)) return;
        struct list now;
        list_init(&now);
        list_splice_back(&now, &l->dirty);
        struct list *node;
        while ((node = list_pop_front(&now)) != NULL)
            stream_write_out(CONTAINER_OF(node, struct stream, dirty));
    }
    io_loop_wake(l); /* others' turn first */
}
