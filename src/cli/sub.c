/* SPDX-License-Identifier: Apache-2.0 */
/* `weir sub`: subscribes, and prints messages as they come, by long polls. */
#include "base/base64.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "cli/dialog.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weir/weir.h>

enum { SUB_SHORT = 4 }; /* exit status: fewer messages than wanted */
enum { POLL_MS = 30000 };

enum { COUNT = DIALOG_OPTIONS, ONCE, WAIT, ACK, DELETE, JSON };
const struct cli_option sub_options[] = {
    DIALOG_OPTION_ROWS,
    [COUNT] = {"count", 'n', "N", "end after N messages (no limit)"},
    [ONCE] = {"once", '1', NULL, "end after one message"},
    [WAIT] = {"wait", 'w', "TIME",
              "end when no message has come for TIME; 0: print what is there (no limit)"},
    [ACK] = {"ack", 0, "auto|explicit", "explicit: acknowledge each message when it has been written (auto)"},
    [DELETE] = {"delete", 0, NULL, "unsubscribe at the end"},
    [JSON] = {"json", 'j', NULL, "a JSON object per line: id, published, type, and body or (no text) base64"},
    {0},
};

struct sub {
    struct cli *cli;
    struct dialog_options options;
    struct dialog dialog;
    uint64_t count, wait_ms, done;
    bool limited, timed, explicit_ack, delete, json;
    struct buffer path; /* of the subscription, with a NUL */
};

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct sub *s = ctx;
    if (dialog_take(&s->options, option, value)) return true;
    switch (option) {
    case COUNT:
        s->limited = true;
        return cli_u64(cli, "count", value, 1, UINT64_MAX, &s->count);
    case ONCE:
        s->limited = true;
        s->count = 1;
        return true;
    case WAIT:
        s->timed = true;
        if (slice_duration_ms(slice_of(value), &s->wait_ms) && s->wait_ms <= UINT64_C(365) * 86400 * 1000)
            return true;
        cli_wrong(cli, "--wait: \"%s\" is not a time (seconds, or with ms, s, m, h)", value);
        return false;
    case ACK:
        s->explicit_ack = strcmp(value, "explicit") == 0;
        if (s->explicit_ack || strcmp(value, "auto") == 0) return true;
        cli_wrong(cli, "--ack: \"%s\" is none of auto|explicit", value);
        return false;
    case DELETE:
        s->delete = true;
        return true;
    default:
        s->json = true;
        return true;
    }
}

/* ---- requests ---- */

/* A request about the subscription, or what lies behind it. -1 and *ret, or the exit status. */
static int ask(struct sub *s, const char *method, const char *more, uint64_t wait_ms,
               struct dialog_answer *ret) {
    char *target;
    if (asprintf(&target, "%s%s", buffer_slice(&s->path).p, more) < 0)
        return cli_fail(s->cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
    int err = dialog_ask(&s->dialog, method, target, "", NULL, wait_ms, ret);
    free(target);
    if (err == WEIR_ECANCELLED) return CLI_OK;
    return err ? dialog_fail(s->cli, &s->dialog, err) : -1;
}

/* The same when nothing but success is wanted. */
static int ask_for(struct sub *s, const char *method, const char *more) {
    struct dialog_answer a;
    int status = ask(s, method, more, 0, &a);
    if (status >= 0) return status;
    status = a.status == 200 ? -1 : dialog_refused(s->cli, &a);
    dialog_answer_fini(&a);
    return status;
}

/* ---- printing ---- */

static json_t *encoded(struct slice bytes) {
    char *text = malloc(base64_size(bytes.n));
    if (!text) return NULL;
    base64_encode(bytes, text);
    json_t *value = json_stringn(text, base64_size(bytes.n));
    free(text);
    return value;
}

static void add_number(json_t *o, const char *key, const struct dialog_answer *a, const char *field) {
    uint64_t n;
    if (slice_u64(head_get_name(&a->head, slice_of(field)), &n))
        json_object_set_new(o, key, json_integer((json_int_t)n));
}

static void add_text(json_t *o, const char *key, struct slice text) {
    if (text.p && utf8_valid(text)) json_object_set_new(o, key, json_stringn(text.p, text.n));
}

/* False: out of memory, or it could not be written. */
static bool print_json(const struct dialog_answer *a) {
    json_t *o = json_object();
    struct slice body = buffer_slice(&a->body);
    add_number(o, "id", a, "weir-message");
    add_text(o, "published", head_get_name(&a->head, SLICE("weir-published")));
    add_number(o, "delivery", a, "weir-delivery");
    add_text(o, "type", head_get(&a->head, HEAD_CONTENT_TYPE));
    if (utf8_valid(body))
        json_object_set_new(o, "body", json_stringn(body.n ? body.p : "", body.n));
    else
        json_object_set_new(o, "base64", encoded(body));
    bool whole = json_object_get(o, utf8_valid(body) ? "body" : "base64");
    whole = whole && json_dumpf(o, stdout, JSON_COMPACT) == 0 && putchar('\n') == '\n';
    json_decref(o);
    return whole;
}

/* -1: written and, if it was to be, acknowledged. */
static int take_message(struct sub *s, const struct dialog_answer *a) {
    struct slice body = buffer_slice(&a->body), id = head_get_name(&a->head, SLICE("weir-message"));
    char path[SLICE_U64 + 2];
    bool ok = true;
    if (s->json) {
        ok = print_json(a);
    } else {
        if (body.n) fwrite(body.p, 1, body.n, stdout);
        putchar('\n');
    }
    if (fflush(stdout) != 0 || ferror(stdout) || !ok)
        return cli_fail(s->cli, CLI_FAILED, "cannot write the message: %s", strerror(errno));
    s->done++;
    if (!s->explicit_ack) return -1;
    struct dialog_answer answer;
    snprintf(path, sizeof path, "/%.*s", id.n <= SLICE_U64 ? (int)id.n : 0, id.p ? id.p : "");
    s->dialog.stop = NULL; /* whatever comes, this one is brought to its end */
    int status = ask(s, "DELETE", path, 0, &answer);
    s->dialog.stop = &stop;
    if (status >= 0) return status;
    /* 404: it took longer than the lease, and somebody else has had it. */
    status = answer.status == 200 || answer.status == 404 ? -1 : dialog_refused(s->cli, &answer);
    dialog_answer_fini(&answer);
    return status;
}

/* ---- the loop ---- */

/* How long the next poll may wait. */
static uint64_t poll_ms(const struct sub *s, uint64_t since_ms) {
    if (!s->timed) return POLL_MS;
    uint64_t passed = clock_mono_ms() - since_ms, left = passed < s->wait_ms ? s->wait_ms - passed : 0;
    return left < POLL_MS ? left : POLL_MS;
}

static int print_messages(struct sub *s) {
    uint64_t since_ms = clock_mono_ms();
    while (!stop && !(s->limited && s->done >= s->count)) {
        struct dialog_answer a;
        char query[64];
        uint64_t wait = poll_ms(s, since_ms);
        snprintf(query, sizeof query, "?wait=%llums%s", (unsigned long long)wait,
                 s->explicit_ack ? "&ack=explicit" : "");
        int status = ask(s, "GET", query, wait, &a);
        if (status >= 0) return status == CLI_OK ? -1 : status;
        if (a.status == 200) {
            status = take_message(s, &a);
            since_ms = clock_mono_ms();
        } else if (a.status != 204) {
            status = dialog_refused(s->cli, &a);
        }
        bool over = a.status == 204 && s->timed && poll_ms(s, since_ms) == 0;
        dialog_answer_fini(&a);
        if (status >= 0) return status;
        if (over) break;
    }
    return -1;
}

/* They come through only while a message is waited for. */
static void catch_signals(struct sub *s) {
    struct sigaction act = {.sa_handler = on_signal};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, &s->dialog.unmasked);
    sigdelset(&s->dialog.unmasked, SIGINT);
    sigdelset(&s->dialog.unmasked, SIGTERM);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN); /* a message that could not be written is not acknowledged */
}

static int run(struct sub *s) {
    int status = ask_for(s, "POST", "");
    if (status >= 0) return status;
    catch_signals(s);
    s->dialog.stop = &stop;
    status = print_messages(s);
    s->dialog.stop = NULL;
    if (s->delete) {
        int left = ask_for(s, "DELETE", "");
        if (status < 0) status = left;
    }
    if (status >= 0) return status;
    if (s->limited && s->done < s->count)
        return cli_fail(s->cli, SUB_SHORT, "%llu of %llu messages came%s", (unsigned long long)s->done,
                        (unsigned long long)s->count, stop ? " before the signal" : " in time");
    return CLI_OK;
}

int cmd_sub(struct cli *cli) {
    struct sub s = {.cli = cli};
    int status = cli_options(cli, take, &s);
    if (status >= 0) return status;
    if (cli->argument_count != 2) return cli_wrong(cli, "wants a topic and a subscription");
    buffer_init(&s.path);
    dialog_add_segment(&s.path, cli->arguments[0]);
    dialog_add_segment(&s.path, cli->arguments[1]);
    (void)buffer_append(&s.path, "", 1);
    status = s.path.starved ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM)) : -1;
    if (status < 0) {
        status = dialog_open(cli, &s.options, "/-/topics", &s.dialog);
        if (status < 0) status = run(&s);
        dialog_close(&s.dialog);
    }
    buffer_fini(&s.path);
    return status;
}
