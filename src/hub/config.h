/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub's configuration. config.def is the table of all keys; a key is named alike as a flag (--max-head),
 * in a file (max-head, in [hub] or before any section) and as an environment variable (WEIR_MAX_HEAD).
 *
 * What is set later wins, so call in this order: config_init, config_file, config_env, config_set for each
 * flag, config_check. A list (listen, route, ...) may be set several times, or with commas: values of the
 * same file, of the environment, or of one run of config_set calls add up; they replace what came from
 * elsewhere. "off" empties it.
 *
 * Functions return 0, WEIR_ENOMEM or WEIR_ECONFIG; then *ret_text (when ret_text is not NULL) is a message
 * for people, to be freed by the caller (it may be NULL for want of memory). No I/O but reading the files
 * that are named. One thread.
 */
#ifndef HUB_CONFIG_H
#define HUB_CONFIG_H

#include "base/buffer.h"

struct core_service_config;
struct core_tenant_config;

struct config_list {
    char **items;
    size_t count;
};
struct config_pair {
    char *name, *value;
};
struct config_pairs {
    struct config_pair *items;
    size_t count;
};

enum config_type {
    CONFIG_GROUP,     /* not a key: a heading, in help */
    CONFIG_ADDRESSES, /* HOST:PORT or unix:PATH */
    CONFIG_ADDRESS,   /* one; NULL: off */
    CONFIG_ENDPOINTS, /* tcp://, ipc:// or inproc:// */
    CONFIG_FILE,      /* a path; NULL: off */
    CONFIG_PATH,      /* of a URL; NULL: off */
    CONFIG_HEADER,    /* a header field's name, lower case; NULL: off */
    CONFIG_FIELD,     /* a header field's value; NULL: off */
    CONFIG_ORIGINS,   /* "*" or scheme://host[:port] */
    CONFIG_URLS,      /* http or https, without a query */
    CONFIG_ROUTES,    /* name: path, value: service */
    CONFIG_SILENT,    /* name: address, value: service */
    CONFIG_TOKENS,    /* name: whose, value: the secret */
    CONFIG_KEYED,     /* "header NAME", "query NAME" or "path N"; NULL: off */
    CONFIG_LABELS,    /* with commas, as the core has them; NULL: off */
    CONFIG_SECTIONS,  /* NAME.KEY=VALUE of a kind of sections */
    CONFIG_SIZE,      /* bytes */
    CONFIG_DURATION,  /* milliseconds */
    CONFIG_RATE,      /* per hour; 0: off */
    CONFIG_COUNT,
    CONFIG_BOOL,
    CONFIG_CHOICE /* index into its values */
};
#define CONFIG_C_ADDRESSES struct config_list
#define CONFIG_C_ADDRESS char *
#define CONFIG_C_ENDPOINTS struct config_list
#define CONFIG_C_FILE char *
#define CONFIG_C_PATH char *
#define CONFIG_C_HEADER char *
#define CONFIG_C_FIELD char *
#define CONFIG_C_ORIGINS struct config_list
#define CONFIG_C_URLS struct config_list
#define CONFIG_C_ROUTES struct config_pairs
#define CONFIG_C_SILENT struct config_pairs
#define CONFIG_C_TOKENS struct config_pairs
#define CONFIG_C_KEYED char *
#define CONFIG_C_LABELS char *
#define CONFIG_C_SECTIONS struct config_sections
#define CONFIG_C_SIZE uint64_t
#define CONFIG_C_DURATION uint64_t
#define CONFIG_C_RATE uint64_t
#define CONFIG_C_COUNT uint64_t
#define CONFIG_C_BOOL bool
#define CONFIG_C_CHOICE unsigned

enum { CONFIG_TEXT, CONFIG_JSON }; /* access_log_format, log_format */
enum { CONFIG_RETRY_SAFE, CONFIG_RETRY_ALWAYS };
enum { CONFIG_ADMISSION_ROOM, CONFIG_ADMISSION_DEADLINE };
enum { CONFIG_FULL_503, CONFIG_FULL_429 };
enum { CONFIG_HALF_CLOSE, CONFIG_HALF_ALLOW };
enum { CONFIG_ORDER_FIFO, CONFIG_ORDER_SHORTEST };
/* log_level is an enum log_level. */

/* What [KIND NAME] says. The struct of each kind begins with it; it is whole after config_check, whatever was
   given. Of its texts those that were given are its own, the others the hub-wide ones. */
struct config_section {
    char *name;     /* NULL in a default */
    unsigned given; /* bit per key that was set for it */
};
struct config_service {
    struct config_section section;
#define SERVICE_KEY(type, field, flag, argument, hub_field, low, high, help) CONFIG_C_##type field;
#include "hub/config.def"
};
struct config_tenant {
    struct config_section section;
#define TENANT_KEY(type, field, flag, argument, hub_field, low, high, help) CONFIG_C_##type field;
#include "hub/config.def"
};
/* All sections of one kind: items is an array of struct config_service or config_tenant. */
struct config_sections {
    void *items;
    size_t count;
};

/* Tokens by their secrets: those that were given, and those of a file. */
struct config_tokens {
    const struct config_pair **places;
    size_t size;
    uint64_t seed;
};

enum config_index {
#define KEY(type, field, flag, argument, standard, low, high, help) CONFIG_KEY_##field,
#include "hub/config.def"
    CONFIG_KEY_COUNT
};

struct config {
#define KEY(type, field, flag, argument, standard, low, high, help) CONFIG_C_##type field;
#include "hub/config.def"
    struct config_service service_default; /* set by config_check, as all below */
    struct config_tenant tenant_default;
    struct config_pairs file_tokens, file_client_tokens; /* read from token_file, client_token_file */
    struct config_tokens worker_tokens, client_tokens;
    char *callback_secret; /* the first line of callback_secret_file; NULL: there is none */
    unsigned layer, set_in[CONFIG_KEY_COUNT];
};

/* All defaults. 0 or WEIR_ENOMEM; config_fini is fine after either. */
int config_init(struct config *c);
void config_fini(struct config *c);

/* Sets one key; both are texts as in a file. Also "service" and "tenant" = "NAME.KEY=VALUE". */
int config_set(struct config *c, const char *key, const char *value, char **ret_text);
/* Reads an INI file. All its errors are told at once, one line each. */
int config_file(struct config *c, const char *path, char **ret_text);
/* The same from memory; name stands for the file in messages. */
int config_text(struct config *c, const char *name, struct slice text, char **ret_text);
/* Takes what is named WEIR_KEY from an environment; empty ones and other names are left alone. */
int config_env(struct config *c, char *const *environment, char **ret_text);
/* Reads the files of tokens, completes the sections, and checks what no key can check alone. */
int config_check(struct config *c, char **ret_text);

/* After config_check: how a service behaves; never NULL. */
const struct config_service *config_service_find(const struct config *c, struct slice name);
/* What the core is to know of it; the texts are the configuration's. */
void config_service_core(const struct config_service *s, struct core_service_config *ret);
void config_tenant_core(const struct config_tenant *t, struct core_tenant_config *ret);

/* Must a token be shown? */
bool config_tokens_wanted(const struct config_tokens *t);
/* Whose token this is; NULL: nobody's. */
const char *config_token_name(const struct config_tokens *t, struct slice secret);

/* Appends everything as an INI file that would set it; secrets are left out, as comments. 0 or WEIR_ENOMEM.
 */
int config_print(const struct config *c, struct buffer *out);

/* ---- the table, for help and documentation ---- */

struct config_key {
    enum config_type type;
    const char *flag, *argument;
    const char *standard; /* the default; of a section's key: the hub-wide key that has it */
    const char *help;     /* of a CONFIG_GROUP: its title; all else is NULL */
    uint64_t low, high;
    size_t offset, hub_offset, size; /* of the field */
    unsigned index;
};
extern const struct config_key config_keys[];
extern const size_t config_keys_count;

/* Kinds of sections that have a name. */
struct config_kind {
    const char *title; /* [title NAME]; and the flag that sets one key of one section */
    const char *about; /* for documentation */
    const struct config_key *keys;
    size_t keys_count;
    size_t size;                       /* of a section's struct */
    size_t list_offset;                /* of its struct config_sections in struct config */
    size_t default_offset;             /* of the struct there that has the hub-wide values */
    bool (*name_fits)(struct slice s); /* what a section may be called */
};
extern const struct config_kind config_kinds[];
extern const size_t config_kinds_count;
/* The name in keys (n of them) nearest to a mistyped one; NULL when none is near. */
const char *config_key_nearest(const struct config_key *keys, size_t n, struct slice name);
/* A list, which may be given several times. */
bool config_key_repeats(const struct config_key *key);
/* "max-head" to "WEIR_MAX_HEAD", in a buffer of the caller's. */
void config_env_name(const char *flag, char *ret, size_t size);

#endif
