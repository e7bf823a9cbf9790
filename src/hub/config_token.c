/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens: those that were given and those of a file, found by their secrets. Each request of a client may
 * bring one, so they stand in a hash table (open addressing, at most half full). Its seed is random: how long
 * a search takes tells nothing about the secrets.
 */
#include "base/hash.h"
#include "base/random.h"
#include "hub/config.h"
#include "hub/config_value.h"

#include <stdlib.h>
#include <weir/weir.h>

/* ---- files ---- */

/* A line: NAME=SECRET, a comment, or nothing. */
static int read_line(struct config_pairs *to, const char *path, unsigned number, struct slice line,
                     char **ret_text) {
    line = slice_trim(line);
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    if (line.n == 0 || line.p[0] == '#') return 0;
    char *why = NULL;
    int err = config_token_add(to, line, ret_text ? &why : NULL);
    if (err == WEIR_ECONFIG) config_fail(ret_text, "%s:%u: %s", path, number, why ? why : "wrong");
    free(why);
    return err;
}

static int read_file(struct config_pairs *to, const char *path, char **ret_text) {
    config_pairs_fini(to);
    if (!path) return 0;
    struct buffer text;
    buffer_init(&text);
    int err = config_read(path, &text, ret_text);
    unsigned number = 1;
    for (struct slice rest = buffer_slice(&text); rest.p && !err; number++)
        err = read_line(to, path, number, slice_next(&rest, '\n'), ret_text);
    buffer_fini(&text);
    if (!err && to->count == 0) /* an emptied file must not open the door to all */
        err = config_fail(ret_text, "%s: has no token", path);
    return err;
}

/* ---- the table ---- */

/* Looks at all of b, however early it differs. */
static bool same_secret(const char *a, struct slice b) {
    size_t n = strlen(a);
    unsigned char differs = n != b.n;
    for (size_t i = 0, j = 0; i < b.n; i++) {
        differs |= (unsigned char)(a[j] ^ b.p[i]);
        j = j + 1 < n ? j + 1 : 0;
    }
    return !differs;
}

/* Where the secret's token stands, or could. */
static const struct config_pair **place_of(const struct config_tokens *t, struct slice secret) {
    size_t i = hash_bytes(secret, t->seed) & (t->size - 1);
    while (t->places[i] && !same_secret(t->places[i]->value, secret)) i = (i + 1) & (t->size - 1);
    return &t->places[i];
}

static int fill(struct config_tokens *t, const struct config_pairs *given, const struct config_pairs *read,
                char **ret_text) {
    config_tokens_fini(t);
    const struct config_pairs *all[] = {given, read};
    if (given->count + read->count == 0) return 0;
    if (random_entropy(&t->seed) != 0) return config_fail(ret_text, "the system gives no random numbers");
    size_t size = 2;
    while (size < 2 * (given->count + read->count)) size *= 2;
    t->places = calloc(size, sizeof *t->places);
    if (!t->places) return WEIR_ENOMEM;
    t->size = size;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < all[k]->count; i++)
            *place_of(t, slice_of(all[k]->items[i].value)) = &all[k]->items[i];
    return 0;
}

int config_tokens_make(struct config *c, char **ret_text) {
    int err = read_file(&c->file_tokens, c->token_file, ret_text);
    if (!err) err = read_file(&c->file_client_tokens, c->client_token_file, ret_text);
    if (!err) err = fill(&c->worker_tokens, &c->token, &c->file_tokens, ret_text);
    if (!err) err = fill(&c->client_tokens, &c->client_token, &c->file_client_tokens, ret_text);
    return err;
}

void config_tokens_fini(struct config_tokens *t) {
    free(t->places);
    *t = (struct config_tokens){0};
}

bool config_tokens_wanted(const struct config_tokens *t) {
    return t->size > 0;
}

const char *config_token_name(const struct config_tokens *t, struct slice secret) {
    const struct config_pair *pair = t->size ? *place_of(t, secret) : NULL;
    return pair ? pair->name : NULL;
}
