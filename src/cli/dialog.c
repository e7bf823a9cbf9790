/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dialog.h"

#include <jansson.h>
#include <stdlib.h>
#include <weir/weir.h>

enum { ANSWER_MS = 30000 };

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

static int take_token(struct cli *cli, const struct dialog_options *o, struct dialog *d) {
    char line[4096] = "";
    if (o->token_file) {
        FILE *f = fopen(o->token_file, "re");
        bool ok = f && fgets(line, sizeof line, f);
        if (f) fclose(f);
        if (!ok) return cli_fail(cli, CLI_FAILED, "cannot read a token from %s", o->token_file);
        line[strcspn(line, "\r\n")] = '\0';
    }
    int err = dialog_set_token(d, o->token_file ? line : o->token);
    if (err == WEIR_EINVAL) return cli_wrong(cli, "the token cannot be sent in a header");
    return err ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err)) : -1;
}

/* The hub of this machine, as its configuration has it. */
static int find_listener(struct cli *cli, const char *base, struct dialog *ret) {
    struct config config;
    int status = cli_config(cli, &config);
    if (status) return status;
    int err = config.listen.count > 0 ? dialog_init(ret, config.listen.items[0], base) : WEIR_ENOTFOUND;
    config_fini(&config);
    if (err == WEIR_ENOTFOUND)
        return cli_fail(cli, CLI_USAGE, "the configuration has no listener for clients; give --hub URL");
    return err ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err)) : -1;
}

int dialog_open(struct cli *cli, const struct dialog_options *o, const char *base, struct dialog *ret) {
    int status = -1;
    *ret = (struct dialog){.fd = -1};
    if (o->hub) {
        int err = dialog_init(ret, o->hub, base);
        if (err == WEIR_EINVAL)
            return cli_wrong(cli, "--hub: \"%s\" is not http://HOST[:PORT][/BASE] or unix:SOCKET[:/BASE]",
                             o->hub);
        if (err) status = cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err));
    } else {
        status = find_listener(cli, base, ret);
    }
    return status < 0 ? take_token(cli, o, ret) : status;
}

int dialog_ask(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, uint64_t wait_ms, struct dialog_answer *ret) {
    d->silence_ms = wait_ms + ANSWER_MS;
    int err = dialog_try(d, method, target, fields, body, ret);
    if (err == WEIR_ECLOSED && d->kept && !d->heard) err = dialog_try(d, method, target, fields, body, ret);
    return err;
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
