/* SPDX-License-Identifier: Apache-2.0 */
/* `weir jobs`: durable jobs from the shell, by the hub's API (docs/protocol.md "Durable jobs"). */
#include "cli/dialog.h"
#include "cli/table.h"

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>
#include <weir/weir.h>

enum { JSON = DIALOG_OPTIONS, STATE, SERVICE, LIMIT, AFTER, WAIT, OLDER };
const struct cli_option jobs_options[] = {
    DIALOG_OPTION_ROWS,
    [JSON] = {"json", 'j', NULL, "print the hub's answers as they are"},
    [STATE] = {"state", 's', "STATES",
               "list, purge: of these, with commas: queued, running, done, failed, cancelled, dead"},
    [SERVICE] = {"service", 0, "NAME", "list, purge: of this service"},
    [LIMIT] = {"limit", 'n', "N", "list: not more than N (all)"},
    [AFTER] = {"after", 0, "ID", "list: those behind this one"},
    [WAIT] = {"wait", 'w', "TIME", "result: wait for the job's end (do not wait)"},
    [OLDER] = {"older-than", 0, "TIME", "purge: those that ended so long ago"},
    {0},
};

enum { PAGE = 1000 };

struct jobs_cli {
    struct dialog_options dialog;
    const char *state, *service, *after, *older;
    uint64_t limit, wait_ms;
    bool json;
    struct cli *cli;
    struct dialog hub;
};

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct jobs_cli *j = ctx;
    uint64_t ms;
    if (dialog_take(&j->dialog, option, value)) return true;
    switch (option) {
    case JSON:
        j->json = true;
        return true;
    case STATE:
        j->state = value;
        return true;
    case SERVICE:
        j->service = value;
        return true;
    case LIMIT:
        return cli_u64(cli, "limit", value, 1, UINT64_MAX, &j->limit);
    case AFTER:
        j->after = value;
        return true;
    case WAIT:
        return cli_duration(cli, "wait", value, &j->wait_ms);
    default:
        j->older = value;
        return cli_duration(cli, "older-than", value, &ms);
    }
}

/* ---- asking ---- */

/* Appends ?name=value or &name=value, percent-encoded; nothing without a value. */
static void add_parameter(struct buffer *target, const char *name, const char *value) {
    if (!value) return;
    bool first = buffer_size(target) == 0 || !memchr(buffer_slice(target).p, '?', buffer_size(target));
    (void)buffer_printf(target, "%c%s=", first ? '?' : '&', name);
    dialog_add_text(target, value);
}

/* Asks, and says it when that fails or the answer is none of the wanted statuses. -1: *ret is the answer;
   else the exit status. */
static int ask(struct jobs_cli *j, const char *method, struct buffer *target, uint64_t wait_ms,
               unsigned wanted, struct dialog_answer *ret) {
    int err = buffer_append(target, "", 1);
    if (err == 0) err = dialog_ask(&j->hub, method, buffer_slice(target).p, "", NULL, wait_ms, ret);
    buffer_fini(target);
    if (err != 0) return dialog_fail(j->cli, &j->hub, err);
    if (wanted == 0 || ret->status == wanted) return -1;
    int result = dialog_refused(j->cli, ret);
    dialog_answer_fini(ret);
    return result;
}

static void print_body(const struct dialog_answer *a) {
    struct slice s = buffer_slice(&a->body);
    fwrite(s.p, 1, s.n, stdout);
}

static void print_line(const struct dialog_answer *a) {
    print_body(a);
    putchar('\n');
}

/* ---- list ---- */

static void shorten(json_t *job) {
    json_t *created = json_object_get(job, "created");
    const char *text = json_string_value(created);
    if (text && strlen(text) > 19) json_object_set_new(job, "created", json_stringn(text, 19));
}

static void print_page(json_t *list) {
    static const struct cli_column columns[] = {
        {"job", "id", 's'},          {"service", "service", 's'},        {"state", "state", 's'},
        {"hop", "hop", 'n'},         {"failed", "failed_attempts", 'n'}, {"status", "status", 'n'},
        {"created", "created", 's'}, {"progress", "progress", 's'},      {"reason", "reason", 's'},
    };
    size_t i;
    json_t *job;
    json_array_foreach(list, i, job) shorten(job);
    CLI_TABLE(NULL, columns, list);
}

static int list_page(struct jobs_cli *j, uint64_t limit, char *after, size_t after_size,
                     uint64_t *ret_count) {
    struct buffer target;
    struct dialog_answer a;
    char number[24];
    buffer_init(&target);
    snprintf(number, sizeof number, "%llu", (unsigned long long)limit);
    add_parameter(&target, "limit", number);
    add_parameter(&target, "state", j->state);
    add_parameter(&target, "service", j->service);
    add_parameter(&target, "after", after[0] ? after : NULL);
    int result = ask(j, "GET", &target, 0, 200, &a);
    if (result >= 0) return result;
    json_t *root = json_loadb(buffer_slice(&a.body).p, buffer_size(&a.body), 0, NULL),
           *list = json_object_get(root, "jobs");
    const char *next = json_string_value(json_object_get(root, "next"));
    *ret_count = json_array_size(list);
    snprintf(after, after_size, "%s", next ? next : "");
    if (!json_is_array(list)) {
        result = cli_fail(j->cli, CLI_FAILED, "the hub's answer is no list of jobs");
    } else if (j->json) {
        size_t i;
        json_t *job;
        json_array_foreach(list, i, job) {
            json_dumpf(job, stdout, JSON_COMPACT);
            putchar('\n');
        }
    } else {
        print_page(list);
    }
    json_decref(root);
    dialog_answer_fini(&a);
    return result;
}

static int list(struct jobs_cli *j) {
    char after[64];
    uint64_t left = j->limit ? j->limit : UINT64_MAX, n;
    int result;
    snprintf(after, sizeof after, "%s", j->after ? j->after : "");
    do {
        result = list_page(j, left < PAGE ? left : PAGE, after, sizeof after, &n);
        if (result >= 0) return result;
        left -= n < left ? n : left;
    } while (after[0] && left > 0);
    return CLI_OK;
}

/* ---- one job ---- */

static void print_fields(const struct dialog_answer *a) {
    json_t *root = json_loadb(buffer_slice(&a->body).p, buffer_size(&a->body), 0, NULL), *value;
    const char *name;
    json_object_foreach(root, name, value) {
        printf("%-16s ", name);
        if (json_is_string(value))
            puts(json_string_value(value));
        else
            printf("%lld\n", (long long)json_integer_value(value));
    }
    json_decref(root);
}

static void begin_target(struct buffer *target, const char *id, const char *more) {
    buffer_init(target);
    dialog_add_segment(target, id);
    (void)buffer_printf(target, "%s", more);
}

static int show(struct jobs_cli *j, const char *id) {
    struct buffer target;
    struct dialog_answer a;
    begin_target(&target, id, "");
    int result = ask(j, "GET", &target, 0, 200, &a);
    if (result >= 0) return result;
    if (j->json)
        print_line(&a);
    else
        print_fields(&a);
    dialog_answer_fini(&a);
    return CLI_OK;
}

/* The body goes to stdout, whatever the status; a status over 399 is exit status 1. */
static int result(struct jobs_cli *j, const char *id) {
    struct buffer target;
    struct dialog_answer a;
    char wait[32];
    begin_target(&target, id, "/result");
    snprintf(wait, sizeof wait, "%llums", (unsigned long long)j->wait_ms);
    add_parameter(&target, "wait", j->wait_ms ? wait : NULL);
    int code = ask(j, "GET", &target, j->wait_ms, 0, &a);
    if (code >= 0) return code;
    bool there = head_get_name(&a.head, SLICE("location")).p == NULL || a.status != 202;
    if (!there) {
        code = cli_fail(j->cli, CLI_FAILED, "it has not ended");
    } else {
        print_body(&a);
        code = a.status < 400 ? CLI_OK : cli_fail(j->cli, CLI_FAILED, "status %u", a.status);
    }
    dialog_answer_fini(&a);
    return code;
}

/* cancel, retry */
static int change(struct jobs_cli *j, const char *method, const char *id, const char *more, unsigned wanted) {
    struct buffer target;
    struct dialog_answer a;
    begin_target(&target, id, more);
    int code = ask(j, method, &target, 0, wanted, &a);
    if (code >= 0) return code;
    if (j->json) print_line(&a);
    dialog_answer_fini(&a);
    return CLI_OK;
}

static int purge(struct jobs_cli *j) {
    struct buffer target;
    struct dialog_answer a;
    buffer_init(&target);
    add_parameter(&target, "state", j->state);
    add_parameter(&target, "service", j->service);
    add_parameter(&target, "older-than", j->older);
    int code = ask(j, "DELETE", &target, 60 * 1000, 200, &a);
    if (code >= 0) return code;
    json_t *root = json_loadb(buffer_slice(&a.body).p, buffer_size(&a.body), 0, NULL);
    if (j->json)
        print_line(&a);
    else
        printf("%lld dropped\n", (long long)json_integer_value(json_object_get(root, "purged")));
    json_decref(root);
    dialog_answer_fini(&a);
    return CLI_OK;
}

/* ---- the command ---- */

static int each(struct jobs_cli *j, const char *verb, char **ids, int n) {
    int worst = CLI_OK;
    for (int i = 0; i < n; i++) {
        int code = strcmp(verb, "show") == 0     ? show(j, ids[i])
                   : strcmp(verb, "result") == 0 ? result(j, ids[i])
                   : strcmp(verb, "cancel") == 0 ? change(j, "DELETE", ids[i], "", 200)
                                                 : change(j, "POST", ids[i], "/retry", 202);
        if (code > worst) worst = code;
    }
    return worst;
}

static int run(struct jobs_cli *j, const char *verb, char **ids, int n) {
    if (strcmp(verb, "list") == 0) return list(j);
    if (strcmp(verb, "purge") == 0) return purge(j);
    return each(j, verb, ids, n);
}

int cmd_jobs(struct cli *cli) {
    static const char *const verbs[] = {"list", "show", "result", "cancel", "retry", "purge", NULL};
    struct jobs_cli j = {.cli = cli};
    int code = cli_options(cli, take, &j);
    if (code >= 0) return code;
    const char *verb = cli->argument_count > 0 ? cli->arguments[0] : "list", *const *known = verbs;
    while (*known && strcmp(*known, verb) != 0) known++;
    if (!*known) return cli_wrong(cli, "\"%s\" is none of list, show, result, cancel, retry, purge", verb);
    bool ids = strcmp(verb, "list") != 0 && strcmp(verb, "purge") != 0;
    int n = cli->argument_count > 0 ? cli->argument_count - 1 : 0;
    if (ids && n == 0) return cli_wrong(cli, "%s wants a job's id", verb);
    if (!ids && n > 0) return cli_wrong(cli, "%s takes no job's id", verb);
    if (strcmp(verb, "purge") == 0 && !j.state)
        return cli_wrong(cli,
                         "purge wants --state: which ended jobs are to go (done, failed, cancelled, dead)");
    code = dialog_open(cli, &j.dialog, "/-/jobs", &j.hub);
    if (code >= 0) return code;
    code = run(&j, verb, cli->arguments + 1, n);
    dialog_close(&j.hub);
    return code;
}
