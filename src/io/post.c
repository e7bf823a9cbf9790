/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl's multi interface says which sockets it waits for and when it wants to be called (on_socket,
 * on_timer); libuv watches them. Whatever has come to its end is taken out after each such call, never within
 * one of libcurl's callbacks.
 */
#include "io/post.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { POST_MAGIC = 0x706f7374 };

struct post {
    unsigned magic;
    struct post_config config;
    char *user_agent;
    CURLM *multi;
    uv_timer_t timer;
    struct list waiting, sending;
    struct list watched;
    unsigned sending_count, open_handles;
    bool closing;
};

struct sending {
    struct list link; /* in waiting or sending */
    struct post *post;
    CURL *easy;
    struct curl_slist *fields;
    size_t received; /* of the answer, head and body */
    void (*done)(void *ctx, unsigned status, const char *why);
    void *ctx;
};

/* A socket of libcurl's. */
struct watched {
    struct list link;
    uv_poll_t poll;
    struct post *post;
    curl_socket_t fd;
};

/* ---- one request ---- */

static void sending_free(struct sending *s) {
    if (s->easy) curl_easy_cleanup(s->easy);
    curl_slist_free_all(s->fields);
    list_del(&s->link);
    free(s);
}

/* Less than n ends the transfer with CURLE_WRITE_ERROR. */
static size_t on_answer(char *bytes, size_t size, size_t n, void *arg) {
    struct sending *s = arg;
    (void)bytes;
    s->received += size * n;
    return s->received <= POST_ANSWER ? size * n : 0;
}

static bool set_fields(struct sending *s, const char *const *fields) {
    struct curl_slist *more = curl_slist_append(NULL, "Expect:"); /* do not wait for a 100 */
    for (s->fields = more; more && *fields; fields++)
        if ((more = curl_slist_append(s->fields, *fields))) s->fields = more;
    return more != NULL;
}

static CURLcode set_up(struct sending *s, const struct post_request *r) {
    const struct post *p = s->post;
    CURL *e = s->easy;
    CURLcode code = CURLE_OK;
#define SET(option, value)                                                                                   \
    if (code == CURLE_OK) code = curl_easy_setopt(e, CURLOPT_##option, value)
    SET(URL, r->url);
    SET(PRIVATE, s);
    SET(PROTOCOLS_STR, "http,https");
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(PATH_AS_IS, 1L);
    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, ""); /* none, whatever the environment says */
    SET(NOSIGNAL, 1L);
    SET(QUICK_EXIT, 1L); /* a thread that still looks up a name is left behind, not waited for */
    SET(TIMEOUT_MS, (long)p->config.timeout_ms);
    SET(CONNECTTIMEOUT_MS, (long)p->config.timeout_ms);
    SET(USERAGENT, p->user_agent);
    SET(POST, 1L);
    SET(POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
    SET(POSTFIELDS, r->body.p ? r->body.p : "");
    SET(HTTPHEADER, s->fields);
    SET(WRITEFUNCTION, on_answer);
    SET(WRITEDATA, s);
    SET(HEADERFUNCTION, on_answer);
    SET(HEADERDATA, s);
    if (p->config.ca_file) {
        SET(CAINFO, p->config.ca_file);
        SET(CAPATH, NULL);
    }
#undef SET
    return code;
}

/* ---- whose turn it is ---- */

static bool begin(struct post *p, struct sending *s) {
    if (curl_multi_add_handle(p->multi, s->easy) != CURLM_OK) return false;
    list_push_back(&p->sending, &s->link);
    p->sending_count++;
    return true;
}

static void tell(struct sending *s, unsigned status, const char *why) {
    void (*done)(void *, unsigned, const char *) = s->done;
    void *ctx = s->ctx;
    sending_free(s);
    done(ctx, status, why);
}

static void begin_waiting(struct post *p) {
    struct list *node;
    while (p->sending_count < POST_AT_ONCE && (node = list_pop_front(&p->waiting))) {
        struct sending *s = CONTAINER_OF(node, struct sending, link);
        if (!begin(p, s)) tell(s, 0, "out of memory");
    }
}

static void end(struct post *p, struct sending *s, CURLcode code) {
    long status = 0;
    bool cut = code == CURLE_WRITE_ERROR && s->received > POST_ANSWER; /* by us */
    if (code == CURLE_OK || cut) curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(p->multi, s->easy);
    p->sending_count--;
    tell(s, (unsigned)status, status ? NULL : curl_easy_strerror(code));
}

static void end_finished(struct post *p) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(p->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result; /* the message goes with the handle */
        char *private;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        end(p, (struct sending *)(void *)private, code);
    }
    begin_waiting(p);
}

/* ---- the loop ---- */

static void act(struct post *p, curl_socket_t fd, int events) {
    int running;
    curl_multi_socket_action(p->multi, fd, events, &running);
    end_finished(p);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct watched *w = poll->data;
    int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    act(w->post, w->fd, status < 0 ? CURL_CSELECT_ERR : flags); /* w may be gone after it */
}

static void on_time(uv_timer_t *timer) {
    CAST(struct post, p, timer->data, POST_MAGIC);
    act(p, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long ms, void *arg) {
    CAST(struct post, p, arg, POST_MAGIC);
    (void)multi;
    if (p->closing) return 0;
    if (ms < 0) {
        uv_timer_stop(&p->timer);
    } else {
        uv_update_time(&p->config.loop->uv); /* a turn may have taken long */
        uv_timer_start(&p->timer, on_time, (uint64_t)ms, 0);
    }
    return 0;
}

static void handle_closed(struct post *p) {
    if (--p->open_handles > 0) return;
    p->magic = 0;
    free(p->user_agent);
    free(p);
}

static void on_watched_closed(uv_handle_t *handle) {
    struct watched *w = handle->data;
    handle_closed(w->post);
    free(w);
}

static void unwatch(struct watched *w) {
    list_del(&w->link);
    uv_close((uv_handle_t *)&w->poll, on_watched_closed);
}

static struct watched *watch(struct post *p, curl_socket_t fd) {
    struct watched *w = calloc(1, sizeof(*w));
    if (!w) return NULL;
    if (uv_poll_init(&p->config.loop->uv, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    uv_unref((uv_handle_t *)&w->poll);
    w->poll.data = w;
    w->post = p;
    w->fd = fd;
    list_push_back(&p->watched, &w->link);
    p->open_handles++;
    curl_multi_assign(p->multi, fd, w);
    return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    CAST(struct post, p, arg, POST_MAGIC);
    struct watched *w = socket_arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w) unwatch(w);
        return 0;
    }
    if (!w && !(w = watch(p, fd))) return -1; /* the transfer fails */
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&w->poll, events, on_readable) == 0 ? 0 : -1;
}

/* ---- from beginning to end ---- */

static CURLcode global_code;
static void init_curl(void) {
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int look_at_curl(const char **ret_text) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *ret_text = "libcurl cannot be initialised";
    if (pthread_once(&once, init_curl) != 0 || global_code != CURLE_OK) return WEIR_EIO;
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    *ret_text = "libcurl was built without lookups in threads (AsynchDNS) or without TLS";
    return info->features & CURL_VERSION_ASYNCHDNS && info->features & CURL_VERSION_SSL ? 0 : WEIR_EIO;
}

static bool set_up_multi(struct post *p) {
    return curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
           curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p) == CURLM_OK &&
           curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
           curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p) == CURLM_OK &&
           curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)POST_AT_ONCE) == CURLM_OK;
}

int post_new(const struct post_config *config, struct post **ret, const char **ret_text) {
    int err = look_at_curl(ret_text);
    if (err != 0) return err;
    struct post *p = calloc(1, sizeof(*p));
    if (!p) return WEIR_ENOMEM;
    p->magic = POST_MAGIC;
    p->config = *config;
    list_init(&p->waiting);
    list_init(&p->sending);
    list_init(&p->watched);
    p->user_agent = strdup(config->user_agent);
    p->multi = p->user_agent ? curl_multi_init() : NULL;
    if (!p->multi || !set_up_multi(p)) {
        if (p->multi) curl_multi_cleanup(p->multi);
        free(p->user_agent);
        free(p);
        return WEIR_ENOMEM;
    }
    uv_timer_init(&config->loop->uv, &p->timer);
    uv_unref((uv_handle_t *)&p->timer);
    p->timer.data = p;
    p->open_handles = 1;
    *ret = p;
    return 0;
}

int post_send(struct post *p, const struct post_request *r,
              void (*done)(void *ctx, unsigned status, const char *why), void *ctx) {
    MAGIC_CHECK(p, POST_MAGIC);
    struct sending *s = calloc(1, sizeof(*s));
    if (!s) return WEIR_ENOMEM;
    list_init(&s->link);
    s->post = p;
    s->done = done;
    s->ctx = ctx;
    s->easy = curl_easy_init();
    CURLcode code = s->easy && set_fields(s, r->fields) ? set_up(s, r) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && p->sending_count >= POST_AT_ONCE)
        list_push_back(&p->waiting, &s->link);
    else if (code == CURLE_OK && !begin(p, s))
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK) return 0;
    sending_free(s);
    return code == CURLE_OUT_OF_MEMORY ? WEIR_ENOMEM : WEIR_EINVAL;
}

static void on_timer_closed(uv_handle_t *handle) {
    handle_closed(handle->data);
}

static void give_up(struct post *p, struct list *all) {
    LIST_FOR (node, all) {
        struct sending *s = CONTAINER_OF(node, struct sending, link);
        if (all == &p->sending) curl_multi_remove_handle(p->multi, s->easy);
        sending_free(s);
    }
}

void post_close(struct post **at) {
    struct post *p = *at;
    *at = NULL;
    if (!p) return;
    MAGIC_CHECK(p, POST_MAGIC);
    p->closing = true;
    /* TLS says goodbye to peers that may be gone: the signal would end the program. */
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    give_up(p, &p->waiting);
    give_up(p, &p->sending);
    curl_multi_cleanup(p->multi);
    LIST_FOR (node, &p->watched) unwatch(CONTAINER_OF(node, struct watched, link));
    if (!sigismember(&before, SIGPIPE)) (void)sigtimedwait(&pipe, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}
