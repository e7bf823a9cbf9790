/* SPDX-License-Identifier: Apache-2.0 */
/* `weir pub`: one message for a topic. */
#include "cli/dialog.h"

#include <stdio.h>
#include <unistd.h>
#include <weir/weir.h>

enum { TYPE = DIALOG_OPTIONS };
const struct cli_option pub_options[] = {
    DIALOG_OPTION_ROWS,
    [TYPE] = {"type", 0, "TYPE", "the message's Content-Type (none)"},
    {0},
};

struct pub {
    struct dialog_options dialog;
    const char *type;
};

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct pub *p = ctx;
    if (dialog_take(&p->dialog, option, value)) return true;
    p->type = value;
    if (text_is_field_value(slice_of(value))) return true;
    cli_wrong(cli, "--type: \"%s\" is not a Content-Type", value);
    return false;
}

/* All of standard input. 0, WEIR_ENOMEM or WEIR_EIO. */
static int read_input(struct buffer *in) {
    enum { PIECE = 64 * 1024 };
    for (;;) {
        char *room = buffer_reserve(in, PIECE);
        if (!room) return WEIR_ENOMEM;
        ssize_t n = read(STDIN_FILENO, room, PIECE);
        if (n < 0) return WEIR_EIO;
        if (n == 0) return 0;
        buffer_commit(in, (size_t)n);
    }
}

static int publish(struct cli *cli, const struct pub *p, struct slice message) {
    struct dialog d;
    struct dialog_answer a;
    struct buffer target, fields;
    buffer_init(&target);
    buffer_init(&fields);
    int status = dialog_open(cli, &p->dialog, "/-/topics", &d);
    if (status < 0) {
        dialog_add_segment(&target, cli->arguments[0]);
        if (p->type) (void)buffer_printf(&fields, "Content-Type: %s\r\n", p->type);
        (void)buffer_append(&target, "", 1);
        (void)buffer_append(&fields, "", 1);
        bool ok = !target.starved && !fields.starved;
        int err =
            ok ? dialog_ask(&d, "POST", buffer_slice(&target).p, buffer_slice(&fields).p, &message, 0, &a)
               : WEIR_ENOMEM;
        if (err)
            status = dialog_fail(cli, &d, err);
        else
            status = a.status == 200 ? CLI_OK : dialog_refused(cli, &a);
        if (!err) dialog_answer_fini(&a);
    }
    dialog_close(&d);
    buffer_fini(&target);
    buffer_fini(&fields);
    return status;
}

int cmd_pub(struct cli *cli) {
    struct pub p = {0};
    struct buffer in;
    int status = cli_options(cli, take, &p), err = 0;
    if (status >= 0) return status;
    if (cli->argument_count < 1 || cli->argument_count > 2)
        return cli_wrong(cli, "wants a topic, and a message at most");
    buffer_init(&in);
    if (cli->argument_count == 1) err = read_input(&in);
    struct slice message = cli->argument_count == 2 ? slice_of(cli->arguments[1]) : buffer_slice(&in);
    status = err ? cli_fail(cli, CLI_FAILED, "cannot read the message: %s", weir_strerror(err))
                 : publish(cli, &p, message);
    buffer_fini(&in);
    return status;
}
