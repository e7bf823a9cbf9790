/* SPDX-License-Identifier: Apache-2.0 */
/* One value of a configuration: from text, to text, freed. Internal to config*.c. */
#ifndef HUB_CONFIG_VALUE_H
#define HUB_CONFIG_VALUE_H

#include "hub/config.h"

/* Most items of a list and most sections of a kind that a configuration may have, and bytes of a file: what a
 * file can make us hold. */
enum { CONFIG_MAX_ITEMS = 10000, CONFIG_MAX_FILE = 1024 * 1024, CONFIG_MAX_LABELS = 1024 };

/* Sets *ret_text, when wanted, to a formatted message. Returns WEIR_ECONFIG, for `return config_fail(...)`.
 */
int config_fail(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Parses text into the key's field in base (which its offset counts from). replace: a list is emptied first.
   The message does not name the key. Nothing changes on failure. Not for CONFIG_SECTIONS. */
int config_value_set(const struct config_key *key, void *base, const char *text, bool replace,
                     char **ret_text);
/* Appends "key = value" lines: one, or one per item of a list. Secrets become comments. Not for
 * CONFIG_SECTIONS. */
int config_value_print(const struct config_key *key, const void *base, struct buffer *out);
/* Frees what the field owns. Not for CONFIG_SECTIONS. */
void config_value_fini(const struct config_key *key, void *base);

/* Appends a NAME=SECRET. The message does not name the key. */
int config_token_add(struct config_pairs *to, struct slice text, char **ret_text);
void config_pairs_fini(struct config_pairs *p);

/* The row in keys (n of them) called name, or NULL. */
const struct config_key *config_key_find(const struct config_key *keys, size_t n, struct slice name);

/* The kind of that title, or NULL. */
const struct config_kind *config_kind_find(struct slice title);
/* A section, made when there is none yet. 0, WEIR_ENOMEM or WEIR_ECONFIG. */
int config_section_get(struct config *c, const struct config_kind *kind, struct slice name,
                       struct config_section **ret, char **ret_text);
int config_section_set(const struct config_kind *kind, struct config_section *s, struct slice key,
                       const char *value, char **ret_text);
/* NAME.KEY=VALUE, or several with commas. */
int config_section_lines(struct config *c, const struct config_kind *kind, const char *text, char **ret_text);
void config_sections_complete(struct config *c);
int config_sections_print(const struct config *c, struct buffer *out);
void config_sections_fini(struct config *c);
/* Reads the files of tokens, and makes the tables of all. */
int config_tokens_make(struct config *c, char **ret_text);
void config_tokens_fini(struct config_tokens *t);
/* For a key that none of n is. */
int config_fail_unknown(const struct config_key *keys, size_t n, struct slice name, char **ret_text);
/* The work of config_set, on a name that may be part of a line. */
int config_set_key(struct config *c, struct slice name, const char *value, char **ret_text);

/* Appends a whole file (at most CONFIG_MAX_FILE bytes) to out. */
int config_read(const char *path, struct buffer *out, char **ret_text);

#endif
