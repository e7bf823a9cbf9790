/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of libweir's client share: client.c (its life, and a request with its repetitions),
 * client_topics.c and client_jobs.c (what is asked).
 *
 * A call is client_begin, then one or more client_ask, all within the same time. One thread at a time.
 */
#ifndef LIB_CLIENT_H
#define LIB_CLIENT_H

#include "base/random.h"
#include "lib/dialog.h"
#include "weir/weir.h"

enum { CLIENT_MAGIC = 0x636c6e74, CLIENT_DETAIL = 512, CLIENT_POLL_MS = 30000, CLIENT_EARLY_MS = 100 };

struct weir_client {
    unsigned magic;
    struct dialog dialog; /* its until_ms is that of the call under way */
    unsigned timeout_ms, attempts;
    struct random random;
    unsigned failures; /* in a row */
    bool unsure;       /* a request of this call may have been carried out, unheard */
    char detail[CLIENT_DETAIL];
};

struct client_ask {
    const char *method;
    struct buffer target, fields; /* used up by client_ask; fields: whole header lines */
    const struct slice *body;     /* NULL: none */
    bool safe;                    /* to repeat, even if it may have been carried out */
    bool raw;                     /* an answer of any status is one; else 503 and 429 may be tried again */
};

void client_begin(struct weir_client *c, uint64_t wait_ms);
/* 0 and an answer of any status, which the caller frees, or a WEIR_E*. */
int client_ask(struct weir_client *c, struct client_ask *ask, struct dialog_answer *ret);
/* For one that is not asked. */
void client_ask_fini(struct client_ask *ask);
/* The error that an answer stands for, 0 for 200 to 299; notes its detail. */
int client_judge(struct weir_client *c, const struct dialog_answer *a);
/* client_ask and client_judge: the answer is the caller's only when it is a good one; ret NULL: it is not
   wanted. */
int client_do(struct weir_client *c, struct client_ask *ask, struct dialog_answer *ret);
/* Waits, within the call's time: false, and at once, when there is not so much left. */
bool client_sleep(const struct weir_client *c, uint64_t ms);
/* How long it is until until_ms, on the monotonic clock. */
uint64_t client_left(uint64_t until_ms);
/* A duration of up to CLIENT_POLL_MS that ends at until_ms: one poll of a longer wait. */
uint64_t client_poll_ms(uint64_t until_ms);
/* A poll of ms that was begun at began_ms has told nothing: may there be another? Waits a little when it came
   back too early. */
bool client_poll_again(const struct weir_client *c, uint64_t began_ms, uint64_t ms, uint64_t until_ms);

/* The answer's body, with a NUL behind it. 0 or WEIR_ENOMEM. */
int client_body(struct dialog_answer *a, struct slice *ret);

#endif
