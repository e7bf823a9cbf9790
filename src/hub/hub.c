/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/hub.h"
#include "base/assert.h"
#include "core/port.h"
#include "hub/private.h"
#include "weir/weir.h"
#include "wire/head.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the core's actions ---- */

static void act(const struct core_action *a) {
    struct worker_port *port = a->port;
    if (a->gatherer) a->gatherer->gone(a->gatherer);
    switch (a->kind) {
    case CORE_SEND:
        a->requester->ops->taken(a->requester);
        port->ops->send(port, a);
        break;
    case CORE_CANCEL:
        port->ops->cancel(port, a->job, a->cause);
        break;
    case CORE_FAIL:
        a->requester->ops->fail(a->requester, &a->why);
        break;
    case CORE_ENDED:
        a->requester->ops->fail(a->requester, &(struct failure){.error = WEIR_ECUT});
        break;
    case CORE_GONE:
    case CORE_NOTHING:
        break;
    }
}

void hub_carry_out(struct hub *h) {
    struct core_action a;
    while (core_next_action(h->core, &a)) act(&a);
}

static void on_core_timer(uv_timer_t *timer) {
    struct hub *h = timer->data;
    h->core_due_us = UINT64_MAX;
    core_tick(h->core, io_now_us(&h->loop));
}

/* The timer may ring early, never late: a due time that has moved on is found when it rings. libuv's clock is
   the turn's in whole milliseconds; what the turn has read of it is old by now. */
static void arm_core_timer(struct hub *h) {
    uint64_t next = core_next_time(h->core);
    if (next >= h->core_due_us) return;
    uv_update_time(&h->loop.uv);
    uint64_t now = uv_now(&h->loop.uv), due = (next + 999) / 1000;
    uv_timer_start(&h->core_timer, on_core_timer, due > now ? due - now : 0, 0);
    h->core_due_us = next;
}

static void finish_drain(struct hub *h) {
    if (h->over) return;
    bool idle = core_idle(h->core) && edge_idle(h->edge) && (!h->topics_edge || edge_idle(h->topics_edge)) &&
                hub_durable_idle(h);
    bool late = io_now_us(&h->loop) >= h->drain_until_us;
    if (!idle && !late) return;
    if (!idle && !core_idle(h->core)) {
        core_drain_over(h->core, io_now_us(&h->loop));
        h->drain_until_us = io_now_us(&h->loop) + 1000 * 1000; /* for the last answers to go out */
        hub_carry_out(h);
        return;
    }
    h->over = true;
    log_event(&h->log, LOG_INFO, "stopped", "drained%s", idle ? "" : ", the rest was cancelled");
    edge_close(h->edge);
    if (h->topics_edge) edge_close(h->topics_edge);
    if (h->admin) edge_close(h->admin);
    attach_close(h->attach);
    uv_close((uv_handle_t *)&h->durable_timer, NULL);
    uv_close((uv_handle_t *)&h->core_timer, NULL);
    uv_close((uv_handle_t *)&h->drain_timer, NULL);
    uv_close((uv_handle_t *)&h->tidy_timer, NULL);
    io_loop_stop(&h->loop);
}

void hub_turn(void *ctx) {
    CAST(struct hub, h, ctx, HUB_MAGIC);
    if (h->over) return;
    edge_turn(h->edge);
    if (h->topics_edge) edge_turn(h->topics_edge);
    if (h->admin) edge_turn(h->admin);
    hub_durable_turn(h);
    do hub_carry_out(h);
    while (attach_turn(h->attach));
    arm_core_timer(h);
    log_flush(&h->log);
    if (h->config->access_log) log_flush(&h->access_log);
    if (h->draining) finish_drain(h);
}

/* ---- start ---- */

static char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text_of(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) text = NULL;
    va_end(args);
    return text;
}

static bool half_close_allowed(void *ctx, struct slice service) {
    struct hub *h = ctx;
    return config_service_find(h->config, service)->half_close == CONFIG_HALF_ALLOW;
}

static const char *token_name(void *ctx, struct slice secret) {
    struct hub *h = ctx;
    return config_token_name(&h->config->worker_tokens, secret);
}

static const char *client_token_name(void *ctx, struct slice secret) {
    struct hub *h = ctx;
    return config_token_name(&h->config->client_tokens, secret);
}

static int longest_first(const void *a, const void *b) {
    const struct edge_route *x = a, *y = b;
    return (x->path.n < y->path.n) - (x->path.n > y->path.n);
}

static int make_routes(struct hub *h) {
    const struct config_pairs *routes = &h->config->route;
    h->routes = calloc(routes->count + 1, sizeof(*h->routes));
    if (!h->routes) return WEIR_ENOMEM;
    for (size_t i = 0; i < routes->count; i++)
        h->routes[i] = (struct edge_route){slice_of(routes->items[i].name), slice_of(routes->items[i].value)};
    qsort(h->routes, routes->count, sizeof(*h->routes), longest_first);
    return 0;
}

static int join_origins(struct hub *h) {
    const struct config_list *list = &h->config->cors_origin;
    struct buffer b;
    buffer_init(&b);
    for (size_t i = 0; i < list->count; i++)
        if (buffer_printf(&b, "%s%s", i ? "," : "", list->items[i]) != 0) goto fail;
    if (list->count > 0 && !(h->cors_origin = strndup(buffer_slice(&b).p, buffer_size(&b)))) goto fail;
    buffer_fini(&b);
    return 0;
fail:
    buffer_fini(&b);
    return WEIR_ENOMEM;
}

static int make_edges(struct hub *h) {
    const struct config *cfg = h->config;
    struct edge_config e = {
        .loop = &h->loop,
        .core = h->core,
        .log = &h->log,
        .access_log = cfg->access_log ? &h->access_log : NULL,
        .access_json = cfg->access_log_format == CONFIG_JSON,
        .max_head = cfg->max_head,
        .max_target = cfg->max_target,
        .buffered_body = cfg->buffered_body,
        .body_window = cfg->body_window,
        .max_body = cfg->max_body,
        .max_connections = cfg->max_connections,
        .head_timeout_us = cfg->head_timeout * 1000,
        .idle_timeout_us = cfg->idle_timeout * 1000,
        .request_timeout_us = cfg->request_timeout * 1000,
        .body_timeout_us = cfg->body_timeout * 1000,
        .routes = h->routes,
        .route_count = cfg->route.count,
        .cors_origin = h->cors_origin,
        .cors_headers = cfg->cors_headers,
        .cors_max_age_s = cfg->cors_max_age / 1000,
        .tenant_header = slice_of(cfg->tenant_header),
        .token_required = config_tokens_wanted(&cfg->client_tokens),
        .token_name = client_token_name,
        .health_path = cfg->health_path,
        .trust_forwarded = cfg->trust_forwarded,
        .server_name = cfg->server_name,
        .half_close = half_close_allowed,
        .jobs = h->jobs,
        .topics = h->topics,
        .ctx = h,
    };
    int err = edge_new(&e, &h->edge);
    if (err == 0 && cfg->topics) {
        e.topics_at_root = true;
        err = edge_new(&e, &h->topics_edge);
        e.topics_at_root = false;
    }
    if (err != 0 || !cfg->admin) return err;
    e.page = hub_page;
    e.access_log = NULL;
    e.cors_origin = NULL;
    e.route_count = 0;
    return edge_new(&e, &h->admin);
}

static int load_zmq_key(struct hub *h, char **ret_text) {
    const char *path = h->config->zmq_curve, *why = NULL;
    int err = path && h->config->zmq.count ? curve_load(path, &h->zmq_key, &why) : 0;
    if (err != 0 && ret_text) *ret_text = text_of("cannot use the CURVE key in %s: %s", path, why);
    return err;
}

static int make_attach(struct hub *h) {
    const struct config *cfg = h->config;
    struct attach_config a = {
        .loop = &h->loop,
        .core = h->core,
        .log = &h->log,
        .max_head = cfg->max_head,
        .body_window = cfg->body_window,
        .buffered_body = cfg->buffered_body,
        .max_gather = cfg->max_gather,
        .max_gather_total = cfg->max_queued_bytes,
        .max_slots = 65536,
        .max_links = (unsigned)cfg->max_workers,
        .upgrade_timeout_us = cfg->head_timeout * 1000,
        .heartbeat_us = cfg->heartbeat * 1000,
        .heartbeat_missed = (unsigned)cfg->heartbeat_missed,
        .token_required = config_tokens_wanted(&cfg->worker_tokens),
        .token_name = token_name,
        .zmq_secret = h->zmq_key.secret[0] ? h->zmq_key.secret : NULL,
        .ctx = h,
    };
    return attach_new(&a, &h->attach);
}

static int listen_failed(int err, const char *key, const char *address, const char *why, char **ret_text) {
    if (ret_text)
        *ret_text = text_of("cannot listen on %s (%s): %s", address, key, why ? why : weir_strerror(err));
    return err;
}

static int listen_all(struct hub *h, char **ret_text) {
    const struct config *cfg = h->config;
    const char *why = NULL;
    int err = 0;
    for (size_t i = 0; i < cfg->listen.count; i++)
        if ((err = edge_listen(h->edge, cfg->listen.items[i], &why)) != 0)
            return listen_failed(err, "listen", cfg->listen.items[i], why, ret_text);
    for (size_t i = 0; i < cfg->workers.count; i++)
        if ((err = attach_listen(h->attach, cfg->workers.items[i], NULL, &why)) != 0)
            return listen_failed(err, "workers", cfg->workers.items[i], why, ret_text);
    for (size_t i = 0; i < cfg->workers_silent.count; i++) {
        const struct config_pair *p = &cfg->workers_silent.items[i];
        if ((err = attach_listen(h->attach, p->name, p->value, &why)) != 0)
            return listen_failed(err, "workers-silent", p->name, why, ret_text);
    }
    for (size_t i = 0; i < cfg->zmq.count; i++)
        if ((err = attach_bind(h->attach, cfg->zmq.items[i], &why)) != 0)
            return listen_failed(err, "zmq", cfg->zmq.items[i], why, ret_text);
    if (h->topics_edge && (err = edge_listen(h->topics_edge, cfg->topics, &why)) != 0)
        return listen_failed(err, "topics", cfg->topics, why, ret_text);
    if (h->admin && (err = edge_listen(h->admin, cfg->admin, &why)) != 0)
        return listen_failed(err, "admin", cfg->admin, why, ret_text);
    return 0;
}

static int start_announcing(struct hub *h, char **ret_text) {
    const struct config *cfg = h->config;
    const char *why = NULL;
    if (!cfg->announce) return 0;
    int err = text_is_service(slice_of(cfg->announce_group)) ? 0 : WEIR_ECONFIG;
    if (err == 0)
        err = announce_start(&h->loop, h->attach, cfg->announce, cfg->announce_group, &h->announcer, &why);
    if (err != 0 && ret_text)
        *ret_text = text_of("cannot announce to %s: %s", cfg->announce,
                            why ? why : "announce-group is not a name (A-Z a-z 0-9 . _ ~ -)");
    return err;
}

static int open_logs(struct hub *h, char **ret_text) {
    const struct config *cfg = h->config;
    log_init(&h->log, STDERR_FILENO, (enum log_level)cfg->log_level, cfg->log_format == CONFIG_JSON);
    if (!cfg->access_log) return 0;
    int fd = STDOUT_FILENO;
    if (strcmp(cfg->access_log, "-") != 0) {
        fd = h->access_fd = open(cfg->access_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0) {
            if (ret_text)
                *ret_text = text_of("cannot open the access log %s: %s", cfg->access_log, strerror(errno));
            return WEIR_EIO;
        }
    }
    log_init(&h->access_log, fd, LOG_INFO, false);
    return 0;
}

static int write_ports_file(struct hub *h, char **ret_text) {
    const char *path = h->config->ports_file;
    if (!path) return 0;
    char *temporary = text_of("%s.%d", path, (int)getpid());
    FILE *f = temporary ? fopen(temporary, "we") : NULL;
    for (size_t i = 0; f && edge_address(h->edge, i); i++)
        fprintf(f, "listen=%s\n", edge_address(h->edge, i));
    const char *address, *service;
    for (size_t i = 0; f && (address = attach_address(h->attach, i, &service)); i++)
        fprintf(f, service ? "workers-silent=%s=%s\n" : "workers=%s\n", address, service);
    for (size_t i = 0; f && (address = attach_endpoint(h->attach, i)); i++) fprintf(f, "zmq=%s\n", address);
    if (f && h->topics_edge) fprintf(f, "topics=%s\n", edge_address(h->topics_edge, 0));
    if (f && h->admin) fprintf(f, "admin=%s\n", edge_address(h->admin, 0));
    bool ok = f && fclose(f) == 0 && rename(temporary, path) == 0;
    if (!ok && ret_text) *ret_text = text_of("cannot write the ports file %s: %s", path, strerror(errno));
    free(temporary);
    return ok ? 0 : WEIR_EIO;
}

static void log_listeners(struct hub *h) {
    for (size_t i = 0; edge_address(h->edge, i); i++)
        log_event(&h->log, LOG_INFO, "listening", "clients %s", edge_address(h->edge, i));
    const char *address, *service;
    for (size_t i = 0; (address = attach_address(h->attach, i, &service)); i++)
        log_event(&h->log, LOG_INFO, "listening", "workers %s%s%s", address, service ? " of " : "",
                  service ? service : "");
    for (size_t i = 0; (address = attach_endpoint(h->attach, i)); i++)
        log_event(&h->log, LOG_INFO, "listening", "ZeroMQ workers %s%s%s", address,
                  h->zmq_key.public[0] ? ", public key " : "", h->zmq_key.public);
    if (h->topics_edge)
        log_event(&h->log, LOG_INFO, "listening", "topics %s", edge_address(h->topics_edge, 0));
    if (h->admin) log_event(&h->log, LOG_INFO, "listening", "admin %s", edge_address(h->admin, 0));
    log_flush(&h->log);
}

/* After a burst the allocator holds free memory: it goes back when nothing is under way, or now and then. */
static void on_tidy_timer(uv_timer_t *timer) {
    struct hub *h = timer->data;
    struct edge_stats stats;
    edge_stats(h->edge, &stats);
    uint64_t now = io_now_us(&h->loop);
    if (stats.requests == h->tidied_requests) return;
    bool idle = core_idle(h->core);
    if (!idle && now - h->tidied_us < HUB_TIDY_LATEST_US) return;
    if (idle) h->tidied_requests = stats.requests;
    h->tidied_us = now;
    malloc_trim(0);
}

static void on_drain_timer(uv_timer_t *timer) {
    (void)timer; /* the turn hook looks at the time */
}

static void begin_drain(struct hub *h) {
    h->draining = true;
    h->drain_until_us = io_now_us(&h->loop) + h->config->drain * 1000;
    log_event(&h->log, LOG_INFO, "draining", "up to %llu ms for what is queued or running",
              (unsigned long long)h->config->drain);
    core_drain(h->core, io_now_us(&h->loop));
    edge_drain(h->edge);
    if (h->topics_edge) edge_drain(h->topics_edge);
    hub_durable_drain(h);
    attach_drain(h->attach);
    announce_stop(&h->announcer);
    uv_timer_start(&h->drain_timer, on_drain_timer, 20, 20);
}

static void adopt_handed(struct hub *h) {
    int fd;
    while (read(h->handed[0], &fd, sizeof(fd)) == (ssize_t)sizeof(fd))
        if (h->draining || attach_adopt(h->attach, fd) != 0) close(fd);
}

static void on_woken(void *ctx) {
    CAST(struct hub, h, ctx, HUB_MAGIC);
    int stops = __atomic_load_n(&h->stops, __ATOMIC_ACQUIRE);
    if (h->over) return;
    adopt_handed(h);
    if (stops > 0 && !h->draining) begin_drain(h);
    if (stops > 1) h->drain_until_us = io_now_us(&h->loop);
}

static int start(struct hub *h, char **ret_text) {
    int err = open_logs(h, ret_text);
    if (err == 0) err = hub_make_core(h);
    if (err == 0) err = hub_make_durable(h, ret_text);
    if (err == 0) err = make_routes(h);
    if (err == 0) err = join_origins(h);
    if (err == 0) err = make_edges(h);
    if (err == 0) err = load_zmq_key(h, ret_text);
    if (err == 0) err = make_attach(h);
    if (err == 0 && pipe2(h->handed, O_CLOEXEC | O_NONBLOCK) != 0) err = WEIR_EIO;
    if (err == 0) err = listen_all(h, ret_text);
    if (err == 0) err = start_announcing(h, ret_text);
    if (err == 0) err = write_ports_file(h, ret_text);
    return err;
}

int hub_new(const struct config *config, struct hub **ret, char **ret_text) {
    char *text = NULL;
    struct hub *h = calloc(1, sizeof(*h));
    if (!h) return WEIR_ENOMEM;
    h->magic = HUB_MAGIC;
    h->config = config;
    h->access_fd = h->handed[0] = h->handed[1] = -1;
    h->core_due_us = h->durable_due_ms = UINT64_MAX;
    int err = io_loop_init(&h->loop);
    if (err != 0) {
        free(h);
        return err;
    }
    h->loop.ctx = h;
    h->loop.turn = hub_turn;
    h->loop.woken = on_woken;
    if (config->busy_poll) h->loop.look_us = config->busy_poll * 1000;
    h->started_us = io_now_us(&h->loop);
    uv_timer_init(&h->loop.uv, &h->core_timer);
    uv_timer_init(&h->loop.uv, &h->durable_timer);
    uv_timer_init(&h->loop.uv, &h->drain_timer);
    uv_timer_init(&h->loop.uv, &h->tidy_timer);
    h->core_timer.data = h->durable_timer.data = h->drain_timer.data = h->tidy_timer.data = h;
    uv_timer_start(&h->tidy_timer, on_tidy_timer, HUB_TIDY_MS, HUB_TIDY_MS);
    uv_unref((uv_handle_t *)&h->tidy_timer);
    err = start(h, &text);
    if (err != 0) {
        hub_free(&h);
        if (ret_text)
            *ret_text = text ? text : text_of("%s", weir_strerror(err));
        else
            free(text);
        return err;
    }
    log_listeners(h);
    *ret = h;
    return 0;
}

int hub_run(struct hub *h) {
    MAGIC_CHECK(h, HUB_MAGIC);
    uv_ref((uv_handle_t *)&h->loop.async); /* the loop goes on without listeners too: until hub_stop */
    /* A peer that is gone shows as an error of the write; the signal would end an embedding program. */
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    while (!h->over) io_loop_run(&h->loop);
    (void)sigtimedwait(&pipe, NULL, &(struct timespec){0}); /* one that is pending is ours */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    uv_unref((uv_handle_t *)&h->loop.async);
    return 0;
}

void hub_stop(struct hub *h) {
    __atomic_add_fetch(&h->stops, 1, __ATOMIC_RELEASE);
    io_loop_wake(&h->loop);
}

const char *hub_address(const struct hub *h, const char *listener) {
    if (strcmp(listener, "listen") == 0) return edge_address(h->edge, 0);
    if (strcmp(listener, "workers") == 0) return attach_address(h->attach, 0, NULL);
    if (strcmp(listener, "zmq") == 0) return attach_endpoint(h->attach, 0);
    if (strcmp(listener, "admin") == 0 && h->admin) return edge_address(h->admin, 0);
    return NULL;
}

void hub_choose(struct hub *h, weir_choose *choose, void *arg) {
    h->choose = choose;
    h->choose_arg = arg;
    core_set_choose(h->core, choose ? hub_choice : NULL);
}

void *hub_zmq_context(const struct hub *h) {
    return attach_zmq_context(h->attach);
}

int hub_connect(struct hub *h, int *ret_fd) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return WEIR_EIO;
    if (write(h->handed[1], &pair[1], sizeof(pair[1])) != (ssize_t)sizeof(pair[1])) {
        close(pair[0]);
        close(pair[1]);
        return WEIR_EIO;
    }
    io_loop_wake(&h->loop);
    *ret_fd = pair[0];
    return 0;
}

void hub_free(struct hub **hub) {
    struct hub *h = *hub;
    if (!h) return;
    *hub = NULL;
    if (!h->over) {
        h->over = true;
        if (h->edge) edge_close(h->edge);
        if (h->topics_edge) edge_close(h->topics_edge);
        if (h->admin) edge_close(h->admin);
        if (h->attach) attach_close(h->attach);
        announce_stop(&h->announcer);
        uv_close((uv_handle_t *)&h->durable_timer, NULL);
        uv_close((uv_handle_t *)&h->core_timer, NULL);
        uv_close((uv_handle_t *)&h->drain_timer, NULL);
        uv_close((uv_handle_t *)&h->tidy_timer, NULL);
    }
    hub_durable_close(h);
    io_loop_fini(&h->loop);
    hub_durable_free(h);
    edge_free(&h->edge);
    edge_free(&h->topics_edge);
    edge_free(&h->admin);
    attach_free(&h->attach);
    if (h->core) core_free(h->core);
    if (h->handed[0] >= 0) {
        int fd;
        while (read(h->handed[0], &fd, sizeof(fd)) == (ssize_t)sizeof(fd)) close(fd);
        close(h->handed[0]);
        close(h->handed[1]);
    }
    log_fini(&h->log);
    if (h->config->access_log) log_fini(&h->access_log);
    if (h->access_fd >= 0) close(h->access_fd);
    free(h->routes);
    free(h->cors_origin);
    h->magic = 0;
    free(h);
}
