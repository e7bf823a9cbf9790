/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dialog.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <weir/weir.h>

enum { HEAD_MOST = 64 * 1024, CONNECT_MS = 5000, ANSWER_MS = 30000, PIECE = 64 * 1024 };

/* ---- where the hub is ---- */

bool dialog_take(struct dialog_options *o, int option, const char *value) {
    switch (option) {
    case DIALOG_HUB:
        o->hub = value;
        return true;
    case DIALOG_TOKEN:
        o->token = value;
        return true;
    case DIALOG_TOKEN_FILE:
        o->token_file = value;
        return true;
    default:
        return false;
    }
}

/* http://HOST[:PORT][/BASE], unix:SOCKET[:/BASE], or an address as listeners have. */
static bool parse_url(struct dialog *d, const char *url, const char *base) {
    static const char http[] = "http://";
    const char *path = NULL;
    char address[300];
    if (strncmp(url, "unix:", 5) == 0) {
        const char *colon = strstr(url + 5, ":/");
        path = colon ? colon + 1 : NULL;
        snprintf(address, sizeof address, "%.*s", (int)(colon ? colon - url : (ptrdiff_t)strlen(url)), url);
        d->host = strdup("localhost");
    } else {
        bool scheme = strncmp(url, http, sizeof http - 1) == 0;
        if (scheme) url += sizeof http - 1;
        size_t n = strcspn(url, "/");
        path = url[n] ? url + n : NULL;
        d->host = strndup(url, n);
        if (n == 0 || n > 255 || !d->host || (path && !scheme)) return false;
        const char *colon = strrchr(d->host, ':'), *bracket = strrchr(d->host, ']');
        bool port = colon && (!bracket || colon > bracket);
        snprintf(address, sizeof address, "%.*s%s", (int)n, url, port ? "" : ":80");
        if (d->host[0] == ':') { /* of a listener: any address */
            free(d->host);
            d->host = strdup("localhost");
        }
    }
    d->base = strdup(path ? path : base);
    if (!d->base || !d->host) return false;
    size_t end = strlen(d->base);
    while (end > 0 && d->base[end - 1] == '/') d->base[--end] = '\0';
    bool fits = end == 0 || text_is_target(slice_of(d->base));
    return fits && !strpbrk(d->base, "?#") && text_is_field_value(slice_of(d->host)) &&
           !io_address_parse(address, &d->to);
}

static int read_token(struct cli *cli, const struct dialog_options *o, struct dialog *d) {
    char line[4096] = "";
    if (o->token) snprintf(line, sizeof line, "%s", o->token);
    if (o->token_file) {
        FILE *f = fopen(o->token_file, "re");
        bool ok = f && fgets(line, sizeof line, f);
        if (f) fclose(f);
        if (!ok) return cli_fail(cli, CLI_FAILED, "cannot read a token from %s", o->token_file);
        line[strcspn(line, "\r\n")] = '\0';
    }
    if (!line[0]) return -1;
    if (!text_is_field_value(slice_of(line))) return cli_wrong(cli, "the token cannot be sent in a header");
    d->token = strdup(line);
    return d->token ? -1 : cli_fail(cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
}

int dialog_open(struct cli *cli, const struct dialog_options *o, const char *base, struct dialog *ret) {
    struct config config;
    *ret = (struct dialog){.fd = -1};
    buffer_init(&ret->in);
    if (o->hub) {
        ret->url = strdup(o->hub);
    } else {
        int status = cli_config(cli, &config);
        if (status) return status;
        if (config.listen.count > 0) ret->url = strdup(config.listen.items[0]);
        config_fini(&config);
    }
    if (!ret->url)
        return cli_fail(cli, CLI_USAGE, "the configuration has no listener for clients; give --hub URL");
    if (!parse_url(ret, ret->url, base))
        return cli_wrong(cli, "--hub: \"%s\" is not http://HOST[:PORT][/BASE] or unix:SOCKET[:/BASE]",
                         ret->url);
    return read_token(cli, o, ret);
}

static void hang_up(struct dialog *d) {
    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
    buffer_reset(&d->in);
}

void dialog_close(struct dialog *d) {
    hang_up(d);
    free(d->url);
    free(d->host);
    free(d->base);
    free(d->token);
}

/* ---- the connection ---- */

static void limit_sending(int fd, unsigned ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

/* A connected socket, or -1. Linux lets SO_SNDTIMEO bound connect too. */
static int dial(int family, const struct sockaddr *to, socklen_t size) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    limit_sending(fd, CONNECT_MS);
    if (connect(fd, to, size) == 0) return fd;
    close(fd);
    return -1;
}

static int call_up(struct dialog *d) {
    const struct io_address *a = &d->to;
    if (a->is_unix) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        memcpy(to.sun_path, a->path, sizeof to.sun_path);
        d->fd = dial(AF_UNIX, (struct sockaddr *)&to, sizeof to);
    } else {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        if (getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, &found)) return WEIR_ECONNECT;
        for (struct addrinfo *i = found; i && d->fd < 0; i = i->ai_next)
            d->fd = dial(i->ai_family, i->ai_addr, i->ai_addrlen);
        freeaddrinfo(found);
    }
    if (d->fd < 0) return WEIR_ECONNECT;
    limit_sending(d->fd, ANSWER_MS);
    return 0;
}

static bool stopped(const struct dialog *d) {
    return d->stop && *d->stop;
}

static int send_all(const struct dialog *d, struct slice s) {
    while (s.n > 0) {
        ssize_t n = send(d->fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return WEIR_ECLOSED;
        s = (struct slice){s.p + n, s.n - (size_t)n};
    }
    return 0;
}

/* Appends what comes next: a count, 0 at the end, or a WEIR_E*. */
static ptrdiff_t receive(struct dialog *d) {
    struct timespec limit = {.tv_sec = (time_t)(d->patience_ms / 1000),
                             .tv_nsec = (long)(d->patience_ms % 1000) * 1000000};
    struct pollfd p = {.fd = d->fd, .events = POLLIN};
    char *room = buffer_reserve(&d->in, PIECE);
    if (!room) return WEIR_ENOMEM;
    ssize_t n;
    do {
        if (stopped(d)) return WEIR_ECANCELLED;
        n = ppoll(&p, 1, &limit, d->stop ? &d->unmasked : NULL);
        if (n == 0) return WEIR_ETIMEDOUT;
        if (n > 0) n = recv(d->fd, room, PIECE, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return WEIR_ECLOSED;
    buffer_commit(&d->in, (size_t)n);
    return n;
}

/* ---- one request ---- */

static int send_request(struct dialog *d, const char *method, const char *target, const char *fields,
                        const struct slice *body) {
    struct buffer out;
    buffer_init(&out);
    int err =
        buffer_printf(&out, "%s %s%s HTTP/1.1\r\nHost: %s\r\n%s", method, d->base, target, d->host, fields);
    if (!err && d->token) err = buffer_printf(&out, "Authorization: Bearer %s\r\n", d->token);
    if (!err && body) err = buffer_printf(&out, "Content-Length: %zu\r\n", body->n);
    if (!err) err = buffer_append_slice(&out, SLICE("\r\n"));
    if (!err) err = send_all(d, buffer_slice(&out));
    buffer_fini(&out);
    if (!err && body) err = send_all(d, *body);
    return err;
}

/* The next final head. */
static int read_head(struct dialog *d, struct dialog_answer *a) {
    do {
        size_t scanned = 0;
        ptrdiff_t size;
        while ((size = http1_scan(buffer_slice(&d->in), &scanned, HEAD_MOST)) == 0) {
            ptrdiff_t n = receive(d);
            if (n <= 0) return n ? (int)n : WEIR_ECLOSED;
        }
        if (size < 0) return WEIR_EMALFORMED;
        int err =
            http1_response((struct slice){buffer_slice(&d->in).p, (size_t)size}, &a->arena, &a->head, NULL);
        if (err) return err;
        buffer_consume(&d->in, (size_t)size);
    } while (a->head.status < 200);
    a->status = a->head.status;
    return 0;
}

void dialog_answer_fini(struct dialog_answer *a) {
    arena_fini(&a->arena);
    buffer_fini(&a->body);
}

static int read_body(struct dialog *d, const char *method, struct dialog_answer *a) {
    struct http1_body framing;
    http1_body_init(&framing, &a->head, slice_of(method));
    while (!framing.done) {
        struct slice payload = {0};
        ptrdiff_t used = http1_body_next(&framing, buffer_slice(&d->in), &payload);
        if (used < 0) return (int)used;
        if (payload.n && buffer_append_slice(&a->body, payload)) return WEIR_ENOMEM;
        buffer_consume(&d->in, (size_t)used);
        if (used > 0 || framing.done) continue;
        ptrdiff_t n = receive(d);
        if (n < 0) return (int)n;
        if (n == 0) return http1_body_eof(&framing);
    }
    return 0;
}

static int ask_once(struct dialog *d, const char *method, const char *target, const char *fields,
                    const struct slice *body, struct dialog_answer *a) {
    int err = send_request(d, method, target, fields, body);
    if (err == WEIR_ENOMEM) return err;
    err = read_head(d, a); /* one that has not read all may have answered nevertheless */
    return err ? err : read_body(d, method, a);
}

int dialog_ask(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, uint64_t wait_ms, struct dialog_answer *ret) {
    bool kept = d->fd >= 0;
    int err = kept ? 0 : call_up(d);
    *ret = (struct dialog_answer){0};
    if (err) return err;
    arena_init(&ret->arena, 4 * HEAD_MOST, NULL, 0);
    d->patience_ms = wait_ms + ANSWER_MS;
    err = ask_once(d, method, target, fields, body, ret);
    bool unheard = err == WEIR_ECLOSED && ret->status == 0 && buffer_size(&d->in) == 0;
    if (err || !ret->head.keep_alive) hang_up(d);
    if (!err) return 0;
    dialog_answer_fini(ret);
    /* A kept connection may have been closed for its idleness. */
    return kept && unheard ? dialog_ask(d, method, target, fields, body, wait_ms, ret) : err;
}

/* ---- what to say ---- */

int dialog_fail(struct cli *cli, const struct dialog *d, int err) {
    bool reach = err == WEIR_ECONNECT || err == WEIR_ETIMEDOUT || err == WEIR_ECLOSED;
    return cli_fail(cli, reach ? CLI_UNREACHABLE : CLI_FAILED, "%s: %s", d->url, weir_strerror(err));
}

int dialog_refused(struct cli *cli, const struct dialog_answer *a) {
    struct slice body = buffer_slice(&a->body);
    json_t *root = body.n ? json_loadb(body.p, body.n, 0, NULL) : NULL;
    const char *detail = json_string_value(json_object_get(root, "detail"));
    int result = cli_fail(cli, CLI_FAILED, "the hub answered %u %s%s%s", a->status, status_text(a->status),
                          detail ? ": " : "", detail ? detail : "");
    json_decref(root);
    return result;
}

void dialog_add_segment(struct buffer *target, const char *name) {
    (void)buffer_append_slice(target, SLICE("/"));
    for (; *name; name++) {
        bool plain = strchr("-._~", *name) || (*name >= '0' && *name <= '9') ||
                     (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z');
        (void)buffer_printf(target, plain ? "%c" : "%%%02X", (unsigned char)*name);
    }
}
