/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a worker: slots + 1 equal ones. Those with nothing to do wait in one epoll set, all of them,
 * and the kernel wakes one for each socket that has something to say: the one that went to sleep last, whose
 * caches are warm. A socket leaves the set with the event it told (EPOLLONESHOT). Who got it reads, and runs
 * what it has read itself, so that a job waits for one thread to wake, and no more.
 *
 * When the jobs that have been read are expected to take long (by the moving average of their service), the
 * socket goes back into the set before the first is run, and others are called for the rest. As long as
 * handlers are quick, the reader keeps it instead: one thread reads, runs and answers a whole batch without
 * waking any other, and a few answers go out in one write.
 *
 * A wrong guess costs at most two milliseconds: while a reader keeps the sockets, a timer wakes one of the
 * others that often, which takes over what nobody does: reading, jobs, output.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "lib/redirect.h"
#include "lib/worker.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* WRITE_AFTER: answers after which the hub may begin with them while the rest of the batch runs. */
enum { QUICK_US = 100, WRITE_AFTER = 4, KNOWN_RUNS = 8, GUARD_US = 1000, LOOK_US = 50, HOT_US = 100 };

/* What an event is about: the number of a link, or one of these. */
enum { EVENT_WAKE = WORKER_HUBS_MAX, EVENT_SIGNAL, EVENT_HELP, EVENT_TIMER };

/* One of the threads. */
struct runner {
    struct weir_worker *worker;
    pthread_t thread;
};

static uint64_t now_us(void) {
    return clock_mono_ns() / 1000;
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

/* ---- the epoll set ---- */

static int watch(const struct weir_worker *w, int fd, uint32_t events, uint32_t about) {
    struct epoll_event e = {.events = events, .data.u32 = about};
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

/* A descriptor that was closed has left the set by itself, and its number may be in use again. */
static void arm(struct weir_worker *w, struct uplink *l) {
    short wanted = l->fd < 0 ? 0 : l->via->events(l);
    if (wanted == 0 || wanted == l->armed) return;
    uint32_t about = (uint32_t)(l - w->links);
    struct epoll_event e = {.events = (uint32_t)wanted | EPOLLONESHOT, .data.u32 = about};
    if (epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, l->fd, &e) != 0 &&
        (errno != ENOENT || watch(w, l->fd, e.events, about) != 0))
        l->broken = true;
    l->armed = wanted;
}

static void arm_all(struct weir_worker *w) {
    w->reader = NULL;
    for (size_t i = 0; i < w->link_count; i++) arm(w, &w->links[i]);
}

static void start_timer(const struct weir_worker *w, uint64_t due_us) {
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(due_us / 1000000), .tv_nsec = (long)(due_us % 1000000 * 1000 + 1)}};
    timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* The timer goes off then, or sooner: it is set anew only for what comes before all else. */
static void set_timer(struct weir_worker *w, uint64_t due_us) {
    if (due_us >= w->timer_us) return;
    w->timer_us = due_us;
    start_timer(w, due_us);
}

/* So many of those who wait come and look. Without the lock, for which they would only queue. */
static void call_others(const struct weir_worker *w, uint64_t n) {
    ssize_t written = n > 0 ? write(w->help_fd, &n, sizeof(n)) : 0;
    (void)written; /* what cannot be counted any more wakes as well */
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

/* Calls so many others before it runs the job. */
static void run_job(struct weir_worker *w, unsigned others) {
    struct weir_job *job = CONTAINER_OF(list_pop_front(&w->ready), struct weir_job, ready);
    w->ready_count--;
    w->activity++;
    pthread_mutex_unlock(&w->lock);

    call_others(w, others);
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
    if (slots_changed)
        flush_all(w);
    else if (l && (took > QUICK_US || l->armed || ++l->unsent >= WRITE_AFTER))
        l->via->flush(l);
}

/* ---- waiting ---- */

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
    call_others(w, w->max_slots + 1);
}

static void read_signals(struct weir_worker *w) {
    struct signalfd_siginfo info;
    while (w->signal_fd >= 0 && read(w->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        __atomic_add_fetch(&w->stops, 1, __ATOMIC_RELEASE);
}

static uint64_t next_due_ms(const struct weir_worker *w, uint64_t now_ms) {
    uint64_t due = w->draining ? w->drain_until_ms : UINT64_MAX;
    if (w->draining && now_ms >= due) due = now_ms + 50;
    if (w->gate && w->gate_due_ms < due) due = w->gate_due_ms;
    for (size_t i = 0; i < w->link_count; i++) {
        uint64_t l = uplink_due(&w->links[i]);
        if (l < due) due = l;
    }
    return due;
}

/* Asks the gate when it is time to. */
static void ask_gate(struct weir_worker *w, uint64_t now_ms) {
    if (!w->gate || now_ms < w->gate_due_ms) return;
    unsigned running = w->busy;
    w->gate_due_ms = now_ms + w->gate_ms;
    pthread_mutex_unlock(&w->lock);
    unsigned limit = w->gate(w->gate_arg, running);
    pthread_mutex_lock(&w->lock);
    w->gate_limit = limit;
    session_announce_all(w);
}

/* A link has had an event, or only time has passed. */
static void step_all(struct weir_worker *w, size_t about, short events) {
    uint64_t now_ms = worker_now_ms();
    for (size_t i = 0; i < w->link_count; i++) uplink_step(&w->links[i], i == about ? events : 0, now_ms);
}

/*
 * Going to sleep and being woken costs more than a quick job itself. So when the last wait was short, the
 * reader begins the next one with looking, for a moment, letting others run in between. Workers of long jobs
 * never get there. False: there was nothing.
 */
static bool look(struct weir_worker *w) {
    struct pollfd fds[WORKER_HUBS_MAX];
    size_t n = w->link_count;
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = w->links[i].armed ? -1 : w->links[i].fd,
                                 .events = w->links[i].via->events(&w->links[i])};
    pthread_mutex_unlock(&w->lock);
    uint64_t began = now_us();
    int found = 0;
    while (found == 0 && now_us() - began < LOOK_US) {
        found = poll(fds, n, 0);
        if (found == 0) sched_yield();
    }
    pthread_mutex_lock(&w->lock);
    uint64_t now_ms = worker_now_ms();
    for (size_t i = 0; i < n && found > 0; i++) /* it may have been dialled anew meanwhile */
        uplink_step(&w->links[i], fds[i].fd == w->links[i].fd ? fds[i].revents : 0, now_ms);
    return found > 0;
}

/* True: the reader is at the same job as the last time, has not been quick, and is relieved. */
static bool guard(struct weir_worker *w) {
    if (!w->reader) return false;
    bool stuck = w->activity == w->activity_seen;
    w->activity_seen = w->activity;
    if (stuck)
        arm_all(w);
    else
        set_timer(w, now_us() + GUARD_US);
    return stuck;
}

/* The jobs that have been read, if any, are this thread's. Returns how many others it needs. */
static unsigned take_jobs(struct weir_worker *w, const struct runner *me, bool stuck) {
    if (w->ready_count == 0) return 0;
    if (!stuck && !others_needed(w)) {
        if (!w->reader) w->activity_seen = w->activity;
        w->reader = me;
        set_timer(w, now_us() + GUARD_US);
        return 0;
    }
    arm_all(w);
    return w->ready_count - 1 < w->idle ? w->ready_count - 1 : w->idle;
}

/* Waits for one event. Returns how many others are needed for what it has brought. */
static unsigned wait_for_event(struct weir_worker *w, const struct runner *me) {
    struct epoll_event e;
    uint64_t count;
    bool stuck = false;
    w->idle++;
    pthread_mutex_unlock(&w->lock);
    int n = epoll_wait(w->epoll_fd, &e, 1, -1);
    while (n == 1 && e.data.u32 == EVENT_TIMER && pthread_mutex_trylock(&w->lock) != 0) {
        start_timer(w, now_us() + GUARD_US); /* nobody is stuck who has the lock: no need to wait for it */
        n = epoll_wait(w->epoll_fd, &e, 1, -1);
    }
    if (n != 1 || e.data.u32 != EVENT_TIMER) pthread_mutex_lock(&w->lock);
    w->idle--;
    if (n != 1) return 0;
    size_t about = e.data.u32;
    if (about < WORKER_HUBS_MAX) {
        w->links[about].armed = 0;
        w->hot = now_us() - w->waits_since_us < HOT_US;
    } else if (about == EVENT_SIGNAL) {
        read_signals(w);
    } else {
        int fd = about == EVENT_WAKE ? w->wake_fd : about == EVENT_HELP ? w->help_fd : w->timer_fd;
        ssize_t got = read(fd, &count, sizeof(count));
        (void)got; /* another one may have been faster */
        if (about == EVENT_HELP) return 0;
        if (about == EVENT_TIMER) {
            w->timer_us = UINT64_MAX;
            stuck = guard(w);
        }
    }
    step_all(w, about, (short)e.events);
    return take_jobs(w, me, stuck);
}

/* With nothing to run: sends what there is to send, looks after what is due, and waits. While another one
   reads, that is its work. */
static unsigned wait_for_jobs(struct weir_worker *w, const struct runner *me) {
    if (w->reader && w->reader != me) return wait_for_event(w, me);
    uint64_t now_ms = worker_now_ms();
    flush_all(w);
    ask_gate(w, now_ms);
    check_stop(w, now_ms);
    if (w->quit) return 0;
    w->waits_since_us = now_us();
    if (w->reader && w->hot && look(w)) return take_jobs(w, me, false);
    arm_all(w);
    uint64_t due_ms = next_due_ms(w, now_ms);
    if (due_ms <= now_ms) {
        step_all(w, WORKER_HUBS_MAX, 0);
        return take_jobs(w, me, false);
    }
    if (due_ms != UINT64_MAX) set_timer(w, due_ms * 1000);
    return wait_for_event(w, me);
}

static void *thread_main(void *arg) {
    struct runner *me = arg;
    CAST(struct weir_worker, w, me->worker, WORKER_MAGIC);
    pthread_mutex_lock(&w->lock);
    while (!w->quit) {
        unsigned others = w->ready_count == 0 ? wait_for_jobs(w, me) : 0;
        if (w->ready_count > 0 && !w->quit) run_job(w, others);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int open_set(struct weir_worker *w) {
    w->timer_us = UINT64_MAX;
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->help_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    bool ok = w->epoll_fd >= 0 && w->help_fd >= 0 && w->timer_fd >= 0 &&
              watch(w, w->wake_fd, EPOLLIN | EPOLLET, EVENT_WAKE) == 0 &&
              watch(w, w->timer_fd, EPOLLIN | EPOLLET, EVENT_TIMER) == 0 &&
              watch(w, w->help_fd, EPOLLIN, EVENT_HELP) == 0 &&
              (w->signal_fd < 0 || watch(w, w->signal_fd, EPOLLIN | EPOLLET, EVENT_SIGNAL) == 0);
    return ok ? 0 : WEIR_EIO;
}

static void close_set(struct weir_worker *w) {
    int *fds[] = {&w->epoll_fd, &w->help_fd, &w->timer_fd};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
}

static int run_threads(struct weir_worker *w, struct runner *runners) {
    unsigned n = w->max_slots, started = 0; /* and the calling one */
    int err = 0;
    pthread_mutex_lock(&w->lock);
    for (unsigned i = 0; i <= n; i++) runners[i].worker = w;
    while (started < n && err == 0) {
        if (pthread_create(&runners[started].thread, NULL, thread_main, &runners[started]) != 0)
            err = WEIR_ENOMEM;
        else
            started++;
    }
    w->quit = err != 0;
    pthread_mutex_unlock(&w->lock);
    if (err == 0) thread_main(&runners[n]);
    for (unsigned i = 0; i < started; i++) pthread_join(runners[i].thread, NULL);
    return err;
}

int pool_run(struct weir_worker *w) {
    struct runner *runners = calloc(w->max_slots + 1, sizeof(*runners));
    int err = runners ? open_set(w) : WEIR_ENOMEM;
    if (err == 0) err = run_threads(w, runners);
    close_set(w);
    free(runners);
    for (size_t i = 0; i < w->link_count; i++) uplink_close(&w->links[i], "stopped");
    return err;
}
