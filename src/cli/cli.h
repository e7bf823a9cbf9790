/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the subcommands of `weir` share: the command table, options, exit statuses, how to talk.
 * A command is a row (name, options, run); help, usage and docs/commands.md are made from the rows.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/log.h"
#include "hub/config.h"

#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

struct cli_option {
    const char *name;     /* long */
    char letter;          /* short, or 0 */
    const char *argument; /* NULL: takes none */
    const char *help;
};

struct cli;
struct cli_command {
    const char *name;
    const char *usage;                /* what follows the name */
    const char *help;                 /* one line */
    const char *detail;               /* more, or NULL */
    const struct cli_option *options; /* ends with a row without name; may be NULL */
    bool config;                      /* every configuration key is an option too */
    bool hidden;
    int (*run)(struct cli *cli);
};
extern const struct cli_command cli_commands[]; /* ends with a row without name */
const struct cli_command *cli_command_find(const char *name);

struct cli_pair {
    const char *key, *value;
};
struct cli {
    const struct cli_command *command;
    int argc;
    char **argv; /* argv[0] is the command's name */
    /* after cli_options: */
    int argument_count;
    char **arguments;
    struct cli_pair *pairs; /* configuration keys given as flags, in order */
    size_t pair_count;
    const char *config_path; /* --config, else WEIR_CONFIG, else NULL */
    struct log log;          /* to stderr, as --log-level and --log-format say */
};

/*
 * Parses cli->argv; calls take for each of the command's own options (index into its rows). take returns
 * false after it has said what is wrong (cli_wrong). Returns -1: go on; otherwise the exit status to end
 * with, among them 0 after --help.
 */
typedef bool cli_take(void *ctx, struct cli *cli, int option, const char *value);
int cli_options(struct cli *cli, cli_take *take, void *ctx);
void cli_fini(struct cli *cli);
/* Says on stderr what is wrong with the call, and how to get help; returns CLI_USAGE. */
int cli_wrong(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Says on stderr what failed, as a log event with --log-format json; returns status. */
int cli_fail(struct cli *cli, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The configuration from --config (or WEIR_CONFIG), the environment and the flags, checked. 0 or CLI_USAGE,
   with the errors told. On success config_fini is the caller's. */
int cli_config(struct cli *cli, struct config *ret);

/* Numbers of options; false after having said what is wrong. */
bool cli_u64(struct cli *cli, const char *option, const char *value, uint64_t low, uint64_t high,
             uint64_t *ret);
bool cli_duration(struct cli *cli, const char *option, const char *value, uint64_t *ret_ms);

/* May fd get colours and progress bars? A terminal, and for colours NO_COLOR is not set (no-color.org). */
bool cli_terminal(int fd);
bool cli_colours(int fd);
/* Redraws the progress bar on stderr: share 0..1 and a text; no-op unless stderr is a terminal. */
void cli_progress(double share, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes the bar away. */
void cli_progress_end(void);
/* 1234567 as "1,234,567", in a buffer of the caller's; returns it. */
const char *cli_number(uint64_t n, char *to, size_t size);
/* Nanoseconds as "1.23 ms". */
const char *cli_time(uint64_t ns, char *to, size_t size);

int cmd_hub(struct cli *cli);
int cmd_check(struct cli *cli);
int cmd_status(struct cli *cli);
int cmd_bench(struct cli *cli);
int cmd_demo(struct cli *cli);
int cmd_demo_worker(struct cli *cli);
int cmd_work(struct cli *cli);
int cmd_jobs(struct cli *cli);
int cmd_pub(struct cli *cli);
int cmd_sub(struct cli *cli);
int cmd_help(struct cli *cli);
int cmd_version(struct cli *cli);
extern const struct cli_option bench_options[], demo_options[], demo_worker_options[], status_options[],
    jobs_options[], pub_options[], sub_options[], work_options[], help_options[];

/* help.c */
void help_overview(FILE *to);
void help_command(const struct cli_command *command);

#endif
