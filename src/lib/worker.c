/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's options and its life; the work itself is in pool.c. */
#include "lib/worker.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/random.h"
#include "lib/redirect.h"
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <zmq.h>

uint64_t worker_now_ms(void) {
    return clock_mono_ms();
}

void worker_log(struct weir_worker *w, const char *format, ...) {
    if (!w->log) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    w->log(w->log_arg, line);
}

void worker_wake(struct weir_worker *w) {
    uint64_t one = 1;
    ssize_t n = write(w->wake_fd, &one, sizeof(one));
    (void)n; /* a full counter wakes too */
}

/* "tcp+zmq://HOST:PORT" is the endpoint tcp://HOST:PORT. *ret NULL: this is none. */
static int zmq_endpoint(const char *hub, char **ret) {
    static const char *const schemes[] = {"tcp", "ipc", "inproc"};
    const char *plus = strstr(hub, "+zmq://");
    *ret = NULL;
    for (size_t i = 0; plus && plus[7] && i < 3; i++)
        if (slice_eq((struct slice){hub, (size_t)(plus - hub)}, slice_of(schemes[i])))
            return asprintf(ret, "%s://%s", schemes[i], plus + 7) < 0 ? WEIR_ENOMEM : 0;
    return plus ? WEIR_EINVAL : 0;
}

static int add_link(struct weir_worker *w, struct slice address, int fd) {
    if (w->link_count == WORKER_HUBS_MAX) return WEIR_EFULL;
    struct uplink *l = &w->links[w->link_count];
    *l = (struct uplink){.worker = w,
                         .via = &h2_transport,
                         .fd = fd,
                         .given = fd >= 0,
                         .state = fd >= 0 ? UPLINK_CONNECTING : UPLINK_WAITING};
    list_init(&l->jobs);
    list_init(&l->resets);
    l->name = strndup(address.p, address.n);
    int err = l->name ? 0 : WEIR_ENOMEM;
    if (err == 0 && fd < 0) err = zmq_endpoint(l->name, &l->endpoint);
    if (l->endpoint)
        l->via = &zmq_transport;
    else if (err == 0 && fd < 0)
        err = io_address_parse(l->name, &l->address);
    if (err == 0)
        w->link_count++;
    else
        free(l->name);
    return err;
}

static int add_links(struct weir_worker *w, const weir_worker_options *o) {
    if (o->fd > 0) return add_link(w, SLICE("socket"), o->fd);
    struct slice rest = slice_of(o->hub && *o->hub ? o->hub : "127.0.0.1:8081");
    int err = 0;
    while (rest.p && err == 0) err = add_link(w, slice_next(&rest, ','), -1);
    return err;
}

static char *copy_or_empty(const char *text) {
    return strdup(text ? text : "");
}

static char *default_id(void) {
    char host[200] = "worker", *id = NULL;
    (void)gethostname(host, sizeof(host) - 1);
    return asprintf(&id, "%s-%d", host, (int)getpid()) < 0 ? NULL : id;
}

static int init(struct weir_worker *w, const weir_worker_options *o) {
    w->max_slots = w->slots = o->slots ? o->slots : 1;
    w->drain_ms = o->drain_ms ? o->drain_ms : 28000;
    w->max_body = o->max_body ? o->max_body : 1024 * 1024;
    w->log = o->log;
    w->log_arg = o->log_arg;
    w->gate = o->gate;
    w->gate_arg = o->gate_arg;
    w->gate_ms = o->gate_ms ? o->gate_ms : 200;
    w->gate_limit = o->gate ? 0 : UINT_MAX;
    w->links = calloc(WORKER_HUBS_MAX, sizeof(*w->links));
    w->read_buffer = malloc(WORKER_READ);
    if (!w->links || !w->read_buffer) return WEIR_ENOMEM;
    if (w->max_slots > WORKER_SLOTS_MAX) return WEIR_EINVAL;
    if (o->id && !text_is_field_value(slice_of(o->id))) return WEIR_EINVAL;
    if (o->labels && !text_is_field_value(slice_of(o->labels))) return WEIR_EINVAL;
    if (o->token && !text_is_field_value(slice_of(o->token))) return WEIR_EINVAL;
    w->id = o->id ? strdup(o->id) : default_id();
    w->labels = copy_or_empty(o->labels);
    w->token = copy_or_empty(o->token);
    if (!w->id || !w->labels || !w->token) return WEIR_ENOMEM;
    w->zmq_context = o->zmq_context;
    w->zmq_context_given = o->zmq_context != NULL;
    if (o->hub_key) {
        uint8_t key[32];
        if (strlen(o->hub_key) != 40 || !zmq_z85_decode(key, o->hub_key)) return WEIR_EINVAL;
        memcpy(w->hub_key, o->hub_key, sizeof(w->hub_key));
        if (zmq_curve_keypair(w->zmq_public, w->zmq_secret) != 0) return WEIR_EIO;
    }
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0 || random_entropy(&w->random) != 0) return WEIR_EIO;
    int err = redirects_open(w, o);
    return err == 0 ? add_links(w, o) : err;
}

int weir_worker_open(const weir_worker_options *options, weir_worker **ret_worker) {
    struct weir_worker *w = calloc(1, sizeof(*w));
    if (!w) return WEIR_ENOMEM;
    w->magic = WORKER_MAGIC;
    w->wake_fd = w->signal_fd = w->epoll_fd = w->help_fd = w->timer_fd = -1;
    list_init(&w->ready);
    pthread_mutex_init(&w->lock, NULL);
    int err = init(w, options);
    if (err != 0) {
        if (options->fd > 0 && w->link_count) w->links[0].fd = -1; /* stays the caller's */
        weir_worker_free(&w);
        return err;
    }
    *ret_worker = w;
    return 0;
}

weir_worker *weir_worker_new(const weir_worker_options *options) {
    weir_worker *w = NULL;
    return weir_worker_open(options, &w) == 0 ? w : NULL;
}

int weir_worker_offer(weir_worker *w, const char *name, weir_handler *handler, void *arg) {
    MAGIC_CHECK(w, WORKER_MAGIC);
    if (!handler || !text_is_service(slice_of(name))) return WEIR_EINVAL;
    struct service *more = realloc(w->services, (w->service_count + 1) * sizeof(*more));
    if (!more) return WEIR_ENOMEM;
    w->services = more;
    char *copy = strdup(name);
    if (!copy) return WEIR_ENOMEM;
    more[w->service_count++] = (struct service){.name = copy, .handler = handler, .arg = arg};
    return 0;
}

int weir_worker_add_hub(weir_worker *w, const char *hub) {
    MAGIC_CHECK(w, WORKER_MAGIC);
    pthread_mutex_lock(&w->lock);
    int err = w->draining || w->quit ? WEIR_ESTATE : WEIR_ENOTFOUND;
    for (size_t i = 0; i < w->link_count && err != 0; i++)
        if (strcmp(w->links[i].name, hub) == 0) err = 0;
    if (err == WEIR_ENOTFOUND) {
        err = add_link(w, slice_of(hub), -1);
        if (err == 0) worker_wake(w);
    }
    pthread_mutex_unlock(&w->lock);
    return err;
}

int weir_worker_serve(weir_worker *w) {
    MAGIC_CHECK(w, WORKER_MAGIC);
    if (w->service_count == 0) return WEIR_ESTATE;
    int err = redirects_start(w);
    if (err == 0) err = pool_run(w);
    redirects_stop(w);
    return err;
}

int weir_worker_run(weir_worker *w) {
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    w->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    int err = w->signal_fd < 0 ? WEIR_EIO : weir_worker_serve(w);
    if (w->signal_fd >= 0) close(w->signal_fd);
    w->signal_fd = -1;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

void weir_worker_stop(weir_worker *w) {
    __atomic_add_fetch(&w->stops, 1, __ATOMIC_RELEASE);
    worker_wake(w);
}

int weir_worker_set_slots(weir_worker *w, unsigned slots) {
    MAGIC_CHECK(w, WORKER_MAGIC);
    if (slots > w->max_slots) return WEIR_EINVAL;
    pthread_mutex_lock(&w->lock);
    w->slots = slots;
    session_announce_all(w);
    worker_wake(w);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

void weir_worker_free(weir_worker **worker) {
    if (!worker || !*worker) return;
    struct weir_worker *w = *worker;
    *worker = NULL;
    for (size_t i = 0; i < w->link_count; i++) {
        struct uplink *l = &w->links[i];
        l->via->hang_up(l);
        free(l->endpoint);
        free(l->name);
    }
    if (w->zmq_context && !w->zmq_context_given) zmq_ctx_term(w->zmq_context);
    redirects_free(w);
    for (size_t i = 0; i < w->service_count; i++) free(w->services[i].name);
    if (w->wake_fd >= 0) close(w->wake_fd);
    pthread_mutex_destroy(&w->lock);
    free(w->links);
    free(w->read_buffer);
    free(w->services);
    free(w->id);
    free(w->labels);
    free(w->token);
    w->magic = 0;
    free(w);
}
