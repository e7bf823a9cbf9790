/* SPDX-License-Identifier: Apache-2.0 */
/* `weir help`: from the tables of commands and keys, for terminals and (--markdown) for docs/. */
#include "cli/cli.h"
#include "hub/metrics.h"

#include <stdio.h>
#include <weir/weir.h>

const struct cli_option help_options[] = {
    {"markdown", 0, "configuration|commands|metrics", "write a page of the documentation"},
    {0},
};

static const struct cli_option common_options[] = {
    {"config", 0, "FILE", "read configuration keys from FILE (also: WEIR_CONFIG)"},
    {"log-level", 0, "error|warn|info|debug", "what is logged to stderr (info)"},
    {"log-format", 0, "text|json", "form of the log (text)"},
    {"help", 'h', NULL, "show this"},
    {"version", 0, NULL, "show the version"},
    {0},
};

static const char statuses[] =
    "Exit status: 0 ok, 1 failed, 2 usage or configuration, 3 cannot reach the hub.";

/* text, broken at spaces to width, each further line indented. */
static void wrap(const char *text, int indent, int width) {
    int at = indent;
    for (struct slice rest = slice_of(text); rest.p;) {
        struct slice word = slice_next(&rest, ' ');
        if (at > indent && at + 1 + (int)word.n > width) {
            printf("\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            putchar(' ');
            at++;
        }
        printf("%.*s", SLICE_ARG(word));
        at += (int)word.n;
    }
    putchar('\n');
}

static void print_option(char letter, const char *name, const char *argument, const char *help) {
    enum { INDENT = 30, WIDTH = 100 };
    char left[128], dash[8] = "    ";
    if (letter) snprintf(dash, sizeof dash, "-%c, ", letter);
    int n = snprintf(left, sizeof left, "  %s--%s%s%s", dash, name, argument ? " " : "",
                     argument ? argument : "");
    if (n < INDENT)
        printf("%-*s", INDENT, left);
    else
        printf("%s\n%*s", left, INDENT, "");
    wrap(help, INDENT, WIDTH);
}

static void print_options(const char *title, const struct cli_option *options) {
    printf("\n%s:\n", title);
    for (const struct cli_option *o = options; o->name; o++)
        print_option(o->letter, o->name, o->argument, o->help);
}

static void print_keys(void) {
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *k = &config_keys[i];
        char help[400];
        if (k->type == CONFIG_GROUP) {
            printf("\n%s:\n", k->help);
            continue;
        }
        snprintf(help, sizeof help, "%s (%s%s)", k->help, k->standard,
                 config_key_repeats(k) ? "; repeatable" : "");
        print_option(0, k->flag, k->argument, help);
    }
}

void help_overview(FILE *to) {
    fprintf(to, "weir %s: an HTTP front door for expensive, uneven work\n\nUsage: weir COMMAND [options]\n\n",
            weir_version());
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (!c->hidden) fprintf(to, "  %-10s %s\n", c->name, c->help);
    }
    fprintf(to, "\nTo begin:\n  weir demo primes          a hub and two stages of workers, on this machine\n"
                "  weir help COMMAND         how a command is used\n");
}

void help_command(const struct cli_command *c) {
    printf("Usage: weir %s%s%s\n\n%s\n", c->name, *c->usage ? " " : "", c->usage, c->help);
    if (c->detail) printf("\n%s\n", c->detail);
    if (c->options && c->options != help_options) print_options("Options", c->options);
    if (c->config) print_keys();
    print_options("Common options", common_options);
    printf("\n%s\n", statuses);
}

/* ---- markdown ---- */

/* A table's cell: '|' would end it, '<' begin a tag, '*' emphasis. */
static void cell(const char *text) {
    for (; *text; text++) {
        if (strchr("|<*", *text)) putchar('\\');
        putchar(*text);
    }
}

/* The same between backquotes, where only '|' needs care. */
static void code(const char *text) {
    putchar('`');
    for (; *text; text++) {
        if (*text == '|') putchar('\\');
        putchar(*text);
    }
    putchar('`');
}

static void key_row(const struct config_key *k) {
    char name[64];
    config_env_name(k->flag, name, sizeof name);
    printf("| `--%s ", k->flag);
    for (const char *p = k->argument; *p; p++) printf("%s%c", *p == '|' ? "\\" : "", *p);
    printf("` | `%s` | `%s` | ", k->flag, name);
    code(k->standard);
    printf(" | ");
    cell(k->help);
    if (config_key_repeats(k)) printf(". Repeatable");
    printf(" |\n");
}

static void markdown_section(const struct config_kind *kind) {
    printf("\n## `[%s NAME]`\n\n%s What is not given holds as the hub's key says.\n\n"
           "| key | values | default: the hub's | meaning |\n|---|---|---|---|\n",
           kind->title, kind->about);
    for (size_t i = 0; i < kind->keys_count; i++) {
        const struct config_key *k = &kind->keys[i];
        printf("| `%s` | ", k->flag);
        code(k->argument);
        printf(" | `");
        for (const char *p = k->standard; *p; p++) putchar(*p == '_' ? '-' : *p);
        printf("` | ");
        cell(k->help);
        printf(" |\n");
    }
}

static void markdown_configuration(void) {
    printf("# Configuration\n\n"
           "<!-- Made by tools/gen-docs from src/hub/config.def; change it there. -->\n\n"
           "Every key is a flag of `weir hub`, a key of its configuration file and an environment variable. "
           "A flag "
           "wins over the environment, the environment over the file, the file over the default.\n\n"
           "The file (`--config FILE`) is an INI file: `KEY = VALUE` lines, in the section `[hub]` or before "
           "any "
           "section; lines that begin with `#` or `;` are comments, and so is what follows ` ;` in a line. "
           "Keys that "
           "are repeatable may be given several times, or with commas; what is given on the command line (or "
           "else in "
           "the environment) replaces what the file says. `off` empties them. Unknown sections, keys and "
           "values are "
           "errors. `weir check` shows what a configuration amounts to.\n\n"
           "Sizes are bytes, or with `KiB`, `MiB`, `GiB` (also `K`, `M`, `G`: the same). Times are seconds, "
           "or with "
           "`ms`, `s`, `m`, `h`. Rates are `N/s`, `N/m`, `N/h`, or `off`. An environment "
           "variable that is empty counts as not set.\n\n"
           "In `--service NAME.KEY=VALUE` and `--tenant NAME.KEY=VALUE` a comma begins the next setting: "
           "there, labels (`require`, `prefer`) are separated by blanks.\n");
    for (size_t i = 0; i < config_keys_count; i++) {
        if (config_keys[i].type == CONFIG_GROUP)
            printf("\n## %s\n\n| flag | file | environment | default | meaning |\n|---|---|---|---|---|\n",
                   config_keys[i].help);
        else
            key_row(&config_keys[i]);
    }
    for (size_t i = 0; i < config_kinds_count; i++) markdown_section(&config_kinds[i]);
    printf("\n## Example\n\n```ini\n[hub]\nlisten = 0.0.0.0:8080\nworkers = 127.0.0.1:8081, "
           "unix:/run/weir/workers.sock\n"
           "route = /is_prime=primes\nmax-body = 64MiB\n\n[service primes]\nmax-queued = 2000\nfull-status = "
           "429\nrequire = zone=${x-zone}\n\n[tenant batch]\nweight = 1\nrate = 600/m\nbest-priority = "
           "6\n```\n");
}

static void option_rows(const struct cli_option *o) {
    printf("\n| option | meaning |\n|---|---|\n");
    for (; o->name; o++) {
        printf("| `");
        if (o->letter) printf("-%c`, `", o->letter);
        printf("--%s%s", o->name, o->argument ? " " : "");
        for (const char *p = o->argument ? o->argument : ""; *p; p++)
            printf("%s%c", *p == '|' ? "\\" : "", *p);
        printf("` | ");
        cell(o->help);
        printf(" |\n");
    }
}

static void markdown_commands(void) {
    printf("# Commands\n\n<!-- Made by tools/gen-docs from the tables in src/cli; change them there. -->\n\n"
           "%s Data goes to stdout, talk to stderr; progress bars are drawn only on a terminal, and colours "
           "not when "
           "`NO_COLOR` is set.\n\nCommon to all commands:\n",
           statuses);
    option_rows(common_options);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (c->hidden) continue;
        printf("\n## `weir %s%s%s`\n\n%c%s.\n", c->name, *c->usage ? " " : "", c->usage,
               c->help[0] >= 'a' && c->help[0] <= 'z' ? c->help[0] - 'a' + 'A' : c->help[0], c->help + 1);
        if (c->detail) printf("\n%s\n", c->detail);
        if (c->config) printf("\nOptions: the keys of [configuration.md](configuration.md).\n");
        if (c->options && c->options != help_options) option_rows(c->options);
    }
}

struct help {
    const char *markdown;
};

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct help *h = ctx;
    (void)cli;
    (void)option;
    h->markdown = value;
    return true;
}

int cmd_help(struct cli *cli) {
    struct help h = {0};
    int status = cli_options(cli, take, &h);
    if (status >= 0) return status;
    if (h.markdown && strcmp(h.markdown, "configuration") == 0) {
        markdown_configuration();
    } else if (h.markdown && strcmp(h.markdown, "metrics") == 0) {
        struct buffer page;
        buffer_init(&page);
        int err = hub_metrics_markdown(&page);
        printf("%.*s", SLICE_ARG(buffer_slice(&page)));
        buffer_fini(&page);
        return err == 0 ? 0 : 1;
    } else if (h.markdown && strcmp(h.markdown, "commands") == 0) {
        markdown_commands();
    } else if (h.markdown) {
        return cli_wrong(cli, "there is no page \"%s\"", h.markdown);
    } else if (cli->argument_count == 0) {
        help_overview(stdout);
    } else {
        const struct cli_command *command = cli_command_find(cli->arguments[0]);
        if (!command) return cli_wrong(cli, "there is no command \"%s\"", cli->arguments[0]);
        help_command(command);
    }
    return CLI_OK;
}

int cmd_version(struct cli *cli) {
    int status = cli_options(cli, NULL, NULL);
    if (status >= 0) return status;
    printf("weir %s\n", weir_version());
    return CLI_OK;
}
