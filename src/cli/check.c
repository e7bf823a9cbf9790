/* SPDX-License-Identifier: Apache-2.0 */
/* `weir check`: what the configuration amounts to. */
#include "cli/cli.h"

#include <stdio.h>
#include <weir/weir.h>

int cmd_check(struct cli *cli) {
    struct config config;
    int status = cli_options(cli, NULL, NULL);
    if (status >= 0) return status;
    if (cli->argument_count > 0) return cli_wrong(cli, "takes no arguments");
    if ((status = cli_config(cli, &config))) return status;

    struct buffer text;
    buffer_init(&text);
    int err = config_print(&config, &text);
    if (!err && fwrite(text.data + text.start, 1, buffer_size(&text), stdout) != buffer_size(&text))
        err = WEIR_EIO;
    if (!err && fflush(stdout)) err = WEIR_EIO;
    buffer_fini(&text);
    config_fini(&config);
    return err ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err)) : CLI_OK;
}
