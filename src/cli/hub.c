/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `weir hub`: a hub in the foreground. Signals are this file's business: SIGTERM and SIGINT call hub_stop,
 * which drains the first time and ends the hub the second.
 */
#include "hub/hub.h"

#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

static struct hub *volatile stopping; /* for the signal handler, which has no other way to know */

static void on_stop(int number) {
    int saved = errno;
    (void)number;
    if (stopping) hub_stop(stopping);
    errno = saved;
}

static void catch_signals(void) {
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
}

/* What writing reports by itself: a peer that is gone, a file beyond the limit of sizes. */
static void ignore_signals(void) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* While there is no hub to stop yet, or no more, stop signals wait. */
static void hold_stops(bool hold) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static int serve(struct cli *cli, const struct config *config) {
    struct hub *hub = NULL;
    char *text = NULL;
    ignore_signals();
    hold_stops(true);
    int err = hub_new(config, &hub, &text);
    if (err) {
        cli_fail(cli, CLI_FAILED, "%s", text ? text : weir_strerror(err));
        free(text);
        return CLI_FAILED;
    }
    stopping = hub;
    catch_signals();
    hold_stops(false);
    err = hub_run(hub);
    hold_stops(true);
    stopping = NULL;
    hub_free(&hub);
    return err ? cli_fail(cli, CLI_FAILED, "%s", weir_strerror(err)) : CLI_OK;
}

int cmd_hub(struct cli *cli) {
    struct config config;
    int status = cli_options(cli, NULL, NULL);
    if (status >= 0) return status;
    if (cli->argument_count > 0) return cli_wrong(cli, "takes no arguments");
    if ((status = cli_config(cli, &config))) return status;
    status = serve(cli, &config);
    config_fini(&config);
    return status;
}
