/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that are clients of a hub share: where it is, and what they say when it does not do as
 * they want. The requests themselves are lib/dialog.h's. */
#ifndef CLI_DIALOG_H
#define CLI_DIALOG_H

#include "cli/cli.h"
#include "lib/dialog.h"

enum { DIALOG_HUB, DIALOG_TOKEN, DIALOG_TOKEN_FILE, DIALOG_OPTIONS };
/* The first rows of a command that has a dialog. */
#define DIALOG_OPTION_ROWS                                                                                   \
    [DIALOG_HUB] =                                                                                           \
        {"hub", 0, "URL",                                                                                    \
         "the hub: http://HOST[:PORT][/BASE] or unix:SOCKET[:/BASE] (the configuration's listen; "           \
         "http://127.0.0.1:8080)"},                                                                          \
    [DIALOG_TOKEN] = {"token", 0, "SECRET", "a client-token of the hub; --token-file hides it from ps"},     \
    [DIALOG_TOKEN_FILE] = {"token-file", 0, "FILE", "the token is the first line of FILE"}

/* What was given for these rows. */
struct dialog_options {
    const char *hub, *token, *token_file;
};
/* True when it was one of them. */
bool dialog_take(struct dialog_options *o, int option, const char *value);

/* base: where the API is when the URL has no path. -1, or the exit status with which it has failed.
   dialog_close is wanted in any case. */
int dialog_open(struct cli *cli, const struct dialog_options *o, const char *base, struct dialog *ret);
/* As dialog_try; once more when a kept connection turns out to have been closed. wait_ms: how long the hub
   may take besides. */
int dialog_ask(struct dialog *d, const char *method, const char *target, const char *fields,
               const struct slice *body, uint64_t wait_ms, struct dialog_answer *ret);
/* Says that a request has failed; returns the exit status. */
int dialog_fail(struct cli *cli, const struct dialog *d, int err);
/* Says what a hub has answered that was not wanted; returns CLI_FAILED. */
int dialog_refused(struct cli *cli, const struct dialog_answer *a);

#endif
