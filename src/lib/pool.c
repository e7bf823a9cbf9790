/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a worker: leader and followers (Schmidt et al., 2000), with two refinements.
 *
 * The leader waits for the sockets and reads. Then it gives up its role and runs what it has read itself: as
 * long as handlers are quick, one thread reads, runs and answers a whole batch without waking any other, and
 * a few answers go out in one write. Only when the jobs that wait are expected to take long (by the moving
 * average of their service) does it wake others.
 *
 * A wrong guess costs at most a millisecond: while jobs run, one follower, the guard, looks that often, and
 * takes over what nobody does: leading, jobs, output. With nothing going on for a millisecond it sleeps too.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "lib/redirect.h"
#include "lib/worker.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* WRITE_AFTER: answers after which the hub may begin with them while the rest of the batch runs. */
enum { QUICK_US = 100, WRITE_AFTER = 4, KNOWN_RUNS = 8, GUARD_NS = 1000 * 1000, LOOK_US = 50, HOT_US = 100 };

static uint64_t now_us(void) {
    return clock_mono_ns() / 1000;
}

static void call_guard(struct weir_worker *w) {
    w->guard_called = true;
    pthread_cond_signal(&w->guard);
}

static void wake_followers(struct weir_worker *w, unsigned n) {
    if (n > w->max_slots)
        pthread_cond_broadcast(&w->followers);
    else
        for (unsigned i = 0; i < n; i++) pthread_cond_signal(&w->followers);
}

/* The jobs that wait will keep this thread for long, or nobody knows. */
static bool others_needed(const struct weir_worker *w) {
    uint64_t expected = 0;
    for (const struct list *node = w->ready.next; node != &w->ready && expected <= QUICK_US;
         node = node->next) {
        const struct service *s = CONTAINER_OF(node, struct weir_job, ready)->service;
        if (s->runs < KNOWN_RUNS) return true;
        expected += s->run_us;
    }
    return expected > QUICK_US;
}

static void flush_all(struct weir_worker *w) {
    for (size_t i = 0; i < w->link_count; i++) w->links[i].via->flush(&w->links[i]);
}

/* ---- running a job ---- */

static void learn(struct service *s, uint64_t took_us) {
    s->run_us = s->runs == 0 ? took_us : (s->run_us * 7 + took_us) / 8;
    if (s->runs < KNOWN_RUNS) s->runs++;
}

static void fall_back_answer(struct weir_job *job, int err) {
    if (job->answered) return;
    if (err >= 0) err = WEIR_ESTATE; /* returned without answering */
    (void)weir_reply_problem(job, 500, "%s",
                             err == WEIR_ESTATE ? "the handler gave no answer" : weir_strerror(err));
}

static void run_job(struct weir_worker *w) {
    struct weir_job *job = CONTAINER_OF(list_pop_front(&w->ready), struct weir_job, ready);
    w->ready_count--;
    w->activity++;
    if (w->guard_parked) pthread_cond_signal(&w->guard);
    pthread_mutex_unlock(&w->lock);

    uint64_t began = now_us();
    int err = __atomic_load_n(&job->cancelled, __ATOMIC_ACQUIRE)
                  ? WEIR_ECANCELLED
                  : job->service->handler(job, job->service->arg);
    fall_back_answer(job, err);
    uint64_t took = now_us() - began;

    pthread_mutex_lock(&w->lock);
    learn(job->service, took);
    w->busy--;
    bool slots_changed = job->zombie || job->reset_by;
    struct uplink *l = job->link;
    session_answer(job);
    bool others_lead = w->leading;
    if (slots_changed)
        flush_all(w);
    else if (l && (took > QUICK_US || others_lead || ++l->unsent >= WRITE_AFTER))
        l->via->flush(l);
    if (others_lead && (w->draining || !l)) worker_wake(w); /* it may have been the last */
}

/* ---- leading ---- */

static void begin_drain(struct weir_worker *w, uint64_t now_ms) {
    w->draining = true;
    w->drain_until_ms = now_ms + w->drain_ms;
    worker_log(w, "draining");
    for (size_t i = 0; i < w->link_count; i++) {
        struct uplink *l = &w->links[i];
        if (l->state == UPLINK_OPEN)
            l->via->leave(l);
        else
            uplink_close(l, "stopping");
    }
}

static void cancel_all(struct weir_worker *w) {
    redirects_cancel(w);
    for (size_t i = 0; i < w->link_count; i++)
        LIST_FOR (node, &w->links[i].jobs) job_cancel(CONTAINER_OF(node, struct weir_job, link_node));
}

static void check_stop(struct weir_worker *w, uint64_t now_ms) {
    int stops = __atomic_load_n(&w->stops, __ATOMIC_ACQUIRE);
    if (stops > 0 && !w->draining) begin_drain(w, now_ms);
    if (w->draining && (stops > 1 || now_ms >= w->drain_until_ms)) {
        cancel_all(w);
        w->quit = w->busy == 0;
    }
    bool alive = false;
    for (size_t i = 0; i < w->link_count; i++) alive |= w->links[i].state != UPLINK_CLOSED;
    if (w->busy == 0 && ((w->draining && w->streams == 0) || !alive)) w->quit = true;
    if (!w->quit) return;
    flush_all(w);
    pthread_cond_broadcast(&w->followers);
    pthread_cond_signal(&w->guard);
}

static void read_signals(struct weir_worker *w) {
    struct signalfd_siginfo info;
    while (w->signal_fd >= 0 && read(w->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        __atomic_add_fetch(&w->stops, 1, __ATOMIC_RELEASE);
}

static int poll_timeout(const struct weir_worker *w, uint64_t now_ms) {
    uint64_t due = w->draining ? w->drain_until_ms : UINT64_MAX;
    if (w->draining && now_ms >= due) due = now_ms + 50;
    if (w->gate && w->gate_due_ms < due) due = w->gate_due_ms;
    for (size_t i = 0; i < w->link_count; i++) {
        uint64_t l = uplink_due(&w->links[i]);
        if (l < due) due = l;
    }
    if (due == UINT64_MAX) return -1;
    return due > now_ms ? (int)(due - now_ms) : 0;
}

/*
 * Going to sleep and being woken costs more than a quick job itself. So when the last wait was short, the
 * next one begins with looking, for a moment, letting others run in between. Workers of long jobs never get
 * there.
 */
static int wait_for_sockets(struct weir_worker *w, struct pollfd *fds, size_t n, int timeout) {
    uint64_t began = now_us();
    int found = 0;
    while (w->hot && timeout != 0 && found == 0 && now_us() - began < LOOK_US) {
        found = poll(fds, n, 0);
        if (found == 0) sched_yield();
    }
    if (found == 0) found = poll(fds, n, timeout);
    w->hot = now_us() - began < HOT_US;
    return found;
}

/* Asks the gate when it is time to. */
static void ask_gate(struct weir_worker *w, uint64_t now_ms) {
    if (!w->gate || now_ms < w->gate_due_ms) return;
    unsigned running = w->busy;
    pthread_mutex_unlock(&w->lock);
    unsigned limit = w->gate(w->gate_arg, running);
    pthread_mutex_lock(&w->lock);
    w->gate_due_ms = now_ms + w->gate_ms;
    w->gate_limit = limit;
    session_announce_all(w);
}

/* Reads once; before that wakes so many followers, without the lock, for which they would only queue. */
static void lead_once(struct weir_worker *w, struct pollfd *fds, unsigned wake) {
    ask_gate(w, worker_now_ms());
    flush_all(w);
    check_stop(w, worker_now_ms());
    if (w->quit) return;
    size_t n = 0, links = w->link_count; /* it may grow meanwhile */
    for (size_t i = 0; i < links; i++)
        fds[n++] = (struct pollfd){.fd = w->links[i].fd, .events = w->links[i].via->events(&w->links[i])};
    fds[n++] = (struct pollfd){.fd = w->wake_fd, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = w->signal_fd, .events = POLLIN};
    int timeout = poll_timeout(w, worker_now_ms());
    w->polling = true;
    pthread_mutex_unlock(&w->lock);
    wake_followers(w, wake);
    int found = wait_for_sockets(w, fds, n, timeout);
    pthread_mutex_lock(&w->lock);
    w->polling = false;
    if (found < 0)
        for (size_t i = 0; i < n; i++) fds[i].revents = 0;
    if (fds[links].revents) {
        uint64_t count;
        ssize_t got = read(w->wake_fd, &count, sizeof(count));
        (void)got;
    }
    if (fds[links + 1].revents) read_signals(w);
    uint64_t now_ms = worker_now_ms();
    for (size_t i = 0; i < links; i++) uplink_step(&w->links[i], fds[i].revents, now_ms);
    check_stop(w, now_ms);
}

/* Quick jobs it runs itself, so it gives up its role. Long ones go to those who wait, and it goes on leading.
 */
static void lead(struct weir_worker *w, struct pollfd *fds) {
    unsigned wake = 0;
    w->leading = true;
    do {
        lead_once(w, fds, wake);
        wake = others_needed(w) ? w->ready_count : 0;
    } while (!w->quit && w->ready_count == wake && wake <= w->waiting);
    w->leading = false;
    if (wake > w->waiting) call_guard(w);
    wake_followers(w, wake);
}

/* ---- following ---- */

static void wait_a_moment(struct weir_worker *w) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += GUARD_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&w->guard, &w->lock, &until);
}

static void guard(struct weir_worker *w) {
    w->guarded = true;
    bool quiet = false;
    while (!w->quit && !w->guard_called) {
        if (quiet && w->leading && w->ready_count == 0) {
            w->guard_parked = true;
            pthread_cond_wait(&w->guard, &w->lock);
            w->guard_parked = false;
            if (w->guard_called) break;
        }
        unsigned seen = w->activity;
        wait_a_moment(w);
        quiet = w->activity == seen;
        /* Somebody has been at the same job all this time, and nobody leads, or jobs wait. */
        if (quiet && (!w->leading || w->ready_count > 0)) break;
    }
    w->guard_called = w->guarded = false;
    if (w->ready_count > 1) wake_followers(w, w->ready_count - 1);
}

static void follow(struct weir_worker *w) {
    if (w->quit) return;
    if (!w->guarded)
        guard(w);
    else {
        w->waiting++;
        pthread_cond_wait(&w->followers, &w->lock);
        w->waiting--;
    }
}

static void *thread_main(void *arg) {
    CAST(struct weir_worker, w, arg, WORKER_MAGIC);
    struct pollfd *fds = calloc(WORKER_HUBS_MAX + 2, sizeof(*fds));
    if (!fds) return NULL;
    pthread_mutex_lock(&w->lock);
    while (!w->quit) {
        /* Whoever leaves to do something leaves a guard behind. */
        if (!w->guarded && w->waiting > 0) wake_followers(w, 1);
        if (w->ready_count > 0)
            run_job(w);
        else if (!w->leading)
            lead(w, fds);
        else
            follow(w);
    }
    pthread_mutex_unlock(&w->lock);
    free(fds);
    return NULL;
}

int pool_run(struct weir_worker *w) {
    unsigned n = w->max_slots; /* and the calling one */
    pthread_t *threads = calloc(n, sizeof(*threads));
    if (!threads) return WEIR_ENOMEM;
    int err = 0;
    unsigned started = 0;
    pthread_mutex_lock(&w->lock);
    while (started < n && err == 0) {
        if (pthread_create(&threads[started], NULL, thread_main, w) != 0)
            err = WEIR_ENOMEM;
        else
            started++;
    }
    if (err != 0) {
        w->quit = true;
        pthread_cond_broadcast(&w->followers);
    }
    pthread_mutex_unlock(&w->lock);
    if (err == 0) thread_main(w);
    for (unsigned i = 0; i < started; i++) pthread_join(threads[i], NULL);
    free(threads);
    for (size_t i = 0; i < w->link_count; i++) uplink_close(&w->links[i], "stopped");
    return err;
}
