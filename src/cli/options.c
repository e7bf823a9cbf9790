/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a command: its own rows, those common to all commands, and (hub, check) the configuration's
 * keys. */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weir/weir.h>

/* What getopt_long returns for an option: which table, and the row in it. */
enum { OWN = 0x1000, KEY_ROW = 0x2000, COMMON = 0x3000, TABLE = 0xf000 };
enum { COMMON_HELP, COMMON_VERSION, COMMON_CONFIG };

struct tables {
    struct option *longs;
    char letters[128];
    size_t count;
};

int cli_wrong(const struct cli *cli, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "weir %s: ", cli->command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry: weir help %s\n", cli->command->name);
    va_end(args);
    return CLI_USAGE;
}

int cli_fail(struct cli *cli, int status, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fflush(stdout); /* what was printed before comes before */
    if (cli->log.json)
        log_event(&cli->log, LOG_ERROR, "failed", "%s", text);
    else
        fprintf(stderr, "weir %s: %s\n", cli->command->name, text);
    return status;
}

static void add(struct tables *t, const char *name, bool argument, int value) {
    t->longs[t->count++] =
        (struct option){.name = name, .has_arg = argument ? required_argument : no_argument, .val = value};
}

static void add_letter(struct tables *t, char letter, bool argument) {
    size_t n = strlen(t->letters);
    if (!letter || n + 3 > sizeof t->letters) return;
    t->letters[n] = letter;
    t->letters[n + 1] = argument ? ':' : '\0';
}

/* log-level and log-format are configuration keys that every command takes. */
static bool common_key(const struct config_key *key) {
    return key->type != CONFIG_GROUP && strncmp(key->flag, "log-", 4) == 0;
}

static int build(const struct cli_command *command, struct tables *t) {
    size_t own = 0;
    while (command->options && command->options[own].name) own++;
    t->longs = calloc(own + config_keys_count + 4, sizeof *t->longs);
    if (!t->longs) return WEIR_ENOMEM;
    strcpy(t->letters, ":h");
    for (size_t i = 0; i < own; i++) {
        const struct cli_option *o = &command->options[i];
        add(t, o->name, o->argument != NULL, OWN | (int)i);
        add_letter(t, o->letter, o->argument != NULL);
    }
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (common_key(key) || (command->config && key->type != CONFIG_GROUP))
            add(t, key->flag, true, KEY_ROW | (int)i);
    }
    add(t, "help", false, COMMON | COMMON_HELP);
    add(t, "version", false, COMMON | COMMON_VERSION);
    add(t, "config", true, COMMON | COMMON_CONFIG);
    return 0;
}

static int own_letter(const struct cli_command *command, int letter) {
    for (int i = 0; command->options && command->options[i].name; i++) {
        if (command->options[i].letter == letter) return OWN | i;
    }
    return letter == 'h' ? COMMON | COMMON_HELP : letter;
}

static bool add_pair(struct cli *cli, const char *key, const char *value) {
    struct cli_pair *pairs = realloc(cli->pairs, (cli->pair_count + 1) * sizeof *pairs);
    if (!pairs) return false;
    cli->pairs = pairs;
    pairs[cli->pair_count++] = (struct cli_pair){key, value};
    return true;
}

/* A long option that is not known, or has a value and takes none, or is short for several. */
static int wrong_name(const struct cli *cli, const char *given) {
    struct slice name = {given, strcspn(given, "=")};
    const char *nearest = NULL;
    if (name.n > 2) name = (struct slice){name.p + 2, name.n - 2};
    if (cli->command->config) nearest = config_key_nearest(config_keys, config_keys_count, name);
    if (nearest && !slice_eq(slice_of(nearest), name))
        return cli_wrong(cli, "unknown option --%.*s; did you mean --%s?", SLICE_ARG(name), nearest);
    return cli_wrong(cli, "unknown option, or a value for one that has none: %s", given);
}

/* One option. -1: go on; else the exit status. */
static int take_one(struct cli *cli, int got, cli_take *take, void *ctx) {
    int row = got & ~TABLE;
    switch (got & TABLE) {
    case OWN:
        return take && take(ctx, cli, row, optarg) ? -1 : CLI_USAGE;
    case KEY_ROW:
        if (add_pair(cli, config_keys[row].flag, optarg)) return -1;
        return cli_fail(cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
    case COMMON:
        if (row == COMMON_CONFIG) cli->config_path = optarg;
        if (row == COMMON_HELP) help_command(cli->command);
        if (row == COMMON_VERSION) printf("weir %s\n", weir_version());
        return row == COMMON_CONFIG ? -1 : CLI_OK;
    default:
        if (got == ':') return cli_wrong(cli, "%s wants a value", cli->argv[optind - 1]);
        if (optopt > 0 && optopt < 128) return cli_wrong(cli, "unknown option -%c", optopt);
        return wrong_name(cli, cli->argv[optind - 1]);
    }
}

/* Flags win over the environment; without --config, the file has no say about a command's own talk. */
static int open_log(struct cli *cli) {
    enum log_level level = LOG_INFO;
    const char *level_text = getenv("WEIR_LOG_LEVEL"), *format = getenv("WEIR_LOG_FORMAT");
    for (size_t i = 0; i < cli->pair_count; i++) {
        if (strcmp(cli->pairs[i].key, "log-level") == 0) level_text = cli->pairs[i].value;
        if (strcmp(cli->pairs[i].key, "log-format") == 0) format = cli->pairs[i].value;
    }
    if (level_text && *level_text && !log_level_parse(level_text, &level))
        return cli_wrong(cli, "log-level: \"%s\" is none of error|warn|info|debug", level_text);
    if (format && *format && strcmp(format, "json") != 0 && strcmp(format, "text") != 0)
        return cli_wrong(cli, "log-format: \"%s\" is none of text|json", format);
    log_init(&cli->log, STDERR_FILENO, level, format && strcmp(format, "json") == 0);
    return -1;
}

int cli_options(struct cli *cli, cli_take *take, void *ctx) {
    struct tables t = {0};
    const char *path = getenv("WEIR_CONFIG");
    cli->config_path = path && *path ? path : NULL;
    if (build(cli->command, &t)) return cli_fail(cli, CLI_FAILED, "%s", weir_strerror(WEIR_ENOMEM));
    int status = -1, got;
    optind = 1;
    opterr = 0;
    while (status < 0 && (got = getopt_long(cli->argc, cli->argv, t.letters, t.longs, NULL)) != -1)
        status = take_one(cli, got < 128 ? own_letter(cli->command, got) : got, take, ctx);
    free(t.longs);
    cli->argument_count = cli->argc - optind;
    cli->arguments = cli->argv + optind;
    return status < 0 ? open_log(cli) : status;
}

void cli_fini(struct cli *cli) {
    if (cli->log.fd) log_fini(&cli->log);
    free(cli->pairs);
    cli->pairs = NULL;
}

static int load(struct cli *cli, struct config *c, char **ret_text) {
    int err = config_init(c);
    if (!err && cli->config_path) err = config_file(c, cli->config_path, ret_text);
    if (!err) err = config_env(c, environ, ret_text);
    for (size_t i = 0; i < cli->pair_count && !err; i++) {
        char *why = NULL;
        err = config_set(c, cli->pairs[i].key, cli->pairs[i].value, &why);
        if (err && why && asprintf(ret_text, "--%s", why) < 0) *ret_text = NULL;
        free(why);
    }
    return err ? err : config_check(c, ret_text);
}

int cli_config(struct cli *cli, struct config *ret) {
    char *text = NULL;
    int err = load(cli, ret, &text);
    if (!err) return 0;
    fprintf(stderr, "%s\n", text ? text : weir_strerror(err));
    free(text);
    config_fini(ret);
    return CLI_USAGE;
}

bool cli_u64(struct cli *cli, const char *option, const char *value, uint64_t low, uint64_t high,
             uint64_t *ret) {
    uint64_t v;
    if (slice_u64(slice_of(value), &v) && v >= low && v <= high) {
        *ret = v;
        return true;
    }
    cli_wrong(cli, "--%s: \"%s\" is not a number from %llu to %llu", option, value, (unsigned long long)low,
              (unsigned long long)high);
    return false;
}

bool cli_duration(struct cli *cli, const char *option, const char *value, uint64_t *ret_ms) {
    uint64_t v;
    if (slice_duration_ms(slice_of(value), &v) && v > 0 && v <= 30ull * 86400 * 1000) {
        *ret_ms = v;
        return true;
    }
    cli_wrong(cli, "--%s: \"%s\" is not a time (seconds, or with ms, s, m, h)", option, value);
    return false;
}
