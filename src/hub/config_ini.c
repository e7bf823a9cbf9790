/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files. inih splits lines into names and values; this file feeds it line by line from memory,
 * which is how it knows the line's number, and reads the sections' titles itself, which inih would cut at 50
 * bytes.
 * Leading blanks are taken off, so that an indented line is a key like any other and never (as inih has it)
 * the rest of the value above.
 */
#include "hub/config.h"
#include "hub/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

enum section { SECTION_HUB, SECTION_NAMED, SECTION_UNKNOWN };
enum { ERRORS_MOST = 20 };

struct reading {
    struct config *config;
    const char *name; /* of the file */
    struct slice rest;
    unsigned line;
    enum section section;
    const struct config_kind *kind; /* in SECTION_NAMED */
    struct slice title;             /* its name */
    struct buffer errors;           /* one line each */
    unsigned error_count;
    int err; /* WEIR_ENOMEM ends the reading */
};

/* Adds a line "FILE:LINE: [KEY: ]why" to the errors. */
static void note(struct reading *r, unsigned line, const char *key, const char *why) {
    if (++r->error_count > ERRORS_MOST) return;
    if (buffer_printf(&r->errors, "%s%s:%u: %s%s%s", r->error_count > 1 ? "\n" : "", r->name, line,
                      key ? key : "", key ? ": " : "", why ? why : "wrong"))
        r->err = WEIR_ENOMEM;
}

/* Takes what a call returned; frees why. */
static void settle(struct reading *r, int err, const char *key, char *why) {
    if (err == WEIR_ENOMEM)
        r->err = err;
    else if (err)
        note(r, r->line, key, why);
    free(why);
}

static void enter_section(struct reading *r, struct slice title) {
    struct slice rest = slice_trim(title), kind = slice_next(&rest, ' ');
    char *why = NULL;
    r->section = SECTION_UNKNOWN;
    if (slice_eq(kind, SLICE("hub")) && !rest.p) {
        r->section = SECTION_HUB;
    } else if (rest.p && (r->kind = config_kind_find(kind))) {
        struct config_section *s;
        r->title = slice_trim(rest);
        int err = config_section_get(r->config, r->kind, r->title, &s, &why);
        settle(r, err, NULL, why);
        if (!err) r->section = SECTION_NAMED;
    } else {
        config_fail(&why, "unknown section [%.*s]; there are [hub], [service NAME] and [tenant NAME]",
                    SLICE_ARG(title));
        settle(r, WEIR_ECONFIG, NULL, why);
    }
}

/* Of all that inih takes for blanks. */
static struct slice trim(struct slice s) {
    while (s.n && isspace((unsigned char)s.p[s.n - 1])) s.n--;
    while (s.n && isspace((unsigned char)*s.p)) s = (struct slice){s.p + 1, s.n - 1};
    return s;
}

/* fgets for inih: the next line, without its leading blanks. A section's title, and a line that does not fit,
   become an empty one.
 */
static char *next_line(char *to, int room, void *arg) {
    struct reading *r = arg;
    if (r->rest.n == 0 || r->err || room < 3) return NULL;
    const char *end = memchr(r->rest.p, '\n', r->rest.n);
    struct slice line = {r->rest.p, end ? (size_t)(end - r->rest.p) : r->rest.n};
    size_t used = line.n + (end != NULL);
    r->rest = (struct slice){r->rest.p + used, r->rest.n - used};
    r->line++;

    line = trim(line);
    const char *close = line.n && line.p[0] == '[' ? memchr(line.p, ']', line.n) : NULL;
    if (close && !memchr(line.p, '\0', line.n)) {
        enter_section(r, (struct slice){line.p + 1, (size_t)(close - line.p) - 1});
        line.n = 0;
    } else if (line.n > (size_t)room - 2) {
        char *why = NULL;
        if (line.p[0] != '#' && line.p[0] != ';') {
            config_fail(&why, "the line is longer than %d bytes", room - 2);
            note(r, r->line, NULL, why);
        }
        free(why);
        line.n = 0;
    } else if (line.n && memchr(line.p, '\0', line.n)) {
        note(r, r->line, NULL, "the line has a NUL byte");
        line.n = 0;
    }
    memcpy(to, line.p, line.n);
    memcpy(to + line.n, "\n", 2);
    return to;
}

static int set_pair(void *arg, const char *section, const char *key, const char *value) {
    struct reading *r = arg;
    char *why = NULL;
    int err = 0;
    (void)section;
    if (r->err || r->section == SECTION_UNKNOWN) return 1;
    if (r->section == SECTION_HUB) {
        err = config_set_key(r->config, slice_of(key), value, &why);
    } else {
        struct config_section *s;
        err = config_section_get(r->config, r->kind, r->title, &s, &why);
        if (!err) err = config_section_set(r->kind, s, slice_of(key), value, &why);
    }
    settle(r, err, key, why);
    return 1;
}

int config_text(struct config *c, const char *name, struct slice text, char **ret_text) {
    struct reading r = {.config = c, .name = name, .rest = text};
    buffer_init(&r.errors);
    if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
        r.rest = (struct slice){text.p + 3, text.n - 3};
    c->layer++;
    int syntax = ini_parse_stream(next_line, &r, set_pair, &r);
    c->layer++;
    if (syntax > 0) note(&r, (unsigned)syntax, NULL, "neither KEY = VALUE nor [SECTION]");
    if (syntax < 0) r.err = WEIR_ENOMEM;
    int err = r.err;
    if (!err && r.error_count > 0) {
        struct slice all = buffer_slice(&r.errors);
        unsigned more = r.error_count > ERRORS_MOST ? r.error_count - ERRORS_MOST : 0;
        if (more)
            err = config_fail(ret_text, "%.*s\n%s: %u more errors", SLICE_ARG(all), name, more);
        else
            err = config_fail(ret_text, "%.*s", SLICE_ARG(all));
    }
    buffer_fini(&r.errors);
    return err;
}

int config_read(const char *path, struct buffer *out, char **ret_text) {
    FILE *f = fopen(path, "re");
    if (!f) return config_fail(ret_text, "%s: %s", path, strerror(errno));
    int err = 0;
    while (!err && !feof(f)) {
        char *to = buffer_reserve(out, 4096);
        size_t n = to ? fread(to, 1, 4096, f) : 0;
        if (to) buffer_commit(out, n);
        if (!to)
            err = WEIR_ENOMEM;
        else if (ferror(f))
            err = config_fail(ret_text, "%s: %s", path, strerror(errno));
        else if (buffer_size(out) > CONFIG_MAX_FILE)
            err = config_fail(ret_text, "%s: larger than 1 MiB", path);
    }
    fclose(f);
    return err;
}

int config_file(struct config *c, const char *path, char **ret_text) {
    struct buffer text;
    buffer_init(&text);
    int err = config_read(path, &text, ret_text);
    if (!err) err = config_text(c, path, buffer_slice(&text), ret_text);
    buffer_fini(&text);
    return err;
}
