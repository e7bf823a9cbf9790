/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One job at one worker, as every kind of worker shares it: what the worker's answer means, and where its
 * bytes go. The adapter parses heads and bodies in its own way and reports them here; the exchange
 * talks to the core and to the requester, and says when the adapter should go on reading.
 */
#ifndef ATTACH_EXCHANGE_H
#define ATTACH_EXCHANGE_H

#include "attach/gather.h"
#include "wire/multipart.h"

enum exchange_state {
    EXCHANGE_AWAITING,   /* no answer yet */
    EXCHANGE_REPLYING,   /* the answer goes to the requester */
    EXCHANGE_FORWARDING, /* the answer's body is gathered for the next hop */
    EXCHANGE_SCATTERING, /* the answer's body is gathered, to be taken apart */
    EXCHANGE_OVER        /* nobody waits for it any more; what comes is dropped */
};

/* What all exchanges of a hub share. */
struct exchange_config {
    struct core *core;
    size_t buffered_body; /* bytes of a forwarded body gathered before it goes on as a stream */
    struct gathers gathers;
};

struct exchange {
    struct exchange_config *config;
    uint64_t worker, job;
    enum exchange_state state;
    struct message *message;             /* what the worker was given; a reference */
    struct body *body;                   /* of the answer; NULL: none */
    struct answer answer;                /* of a forward or scatter; text in answer_head's arena */
    const struct http_head *answer_head; /* of a forward or scatter, while its body is gathered */
    struct buffer scattered;             /* that body */
};

/* The fields that the hub adds to what a worker receives. */
enum { JOB_FIELDS = 5, JOB_TEXTS = 4 };
struct job_field {
    struct slice name, value;
    bool varies; /* from job to job */
};
/* Numbers are written into text, which must live as long as the values; returns how many fields there are. */
unsigned job_fields(const struct core_action *job, uint64_t now, char text[JOB_TEXTS][SLICE_U64],
                    struct job_field ret[JOB_FIELDS]);

/* Appends the request as HTTP/1.1 text, with those fields and, unless its name is empty, one more. Host is
   the service when the client named none (HTTP/1.0). 0 or WEIR_ENOMEM. */
int job_write(const struct core_action *job, uint64_t now, char text[JOB_TEXTS][SLICE_U64],
              struct slice more_name, struct slice more_value, struct buffer *out);

/* Takes a reference on the message. */
void exchange_begin(struct exchange *x, struct exchange_config *config, const struct core_action *send);
/* Drops what it holds. */
void exchange_fini(struct exchange *x);

/* A reply with this status to this job's method has no body, whatever the worker sends (RFC 9110 6.4.1). */
bool exchange_bodyless(const struct exchange *x, unsigned status);
/* A 1xx head has come in: what it says of progress is passed on. */
void exchange_interim(struct exchange *x, uint64_t now, const struct http_head *head);
/* The final head of an answer (no 1xx) has come in. The head must live until exchange_fini; it is changed
   (what may not pass on is taken out). ended: no body follows. producer: told as the body is consumed. 0;
   WEIR_EBADANSWER with *ret_why, or WEIR_ENOMEM: the adapter breaks off the job and, when the worker's side
   has ended, calls exchange_lost. */
int exchange_head(struct exchange *x, uint64_t now, struct http_head *head, bool ended, size_t window,
                  struct body_side producer, const char **ret_why);
/* Body bytes. Returns false when nobody wants them (the adapter may count them as consumed at once). */
bool exchange_data(struct exchange *x, uint64_t now, const char *bytes, size_t n);
/* The answer is whole. */
void exchange_end(struct exchange *x, uint64_t now);
/* The worker gave it back unstarted. Frees the slot. */
void exchange_handed_back(struct exchange *x, uint64_t now);
/* The answer broke off or made no sense. Frees the slot. */
void exchange_lost(struct exchange *x, uint64_t now);
/* It can have no answer; error says why. The slot stays busy. */
void exchange_fail(struct exchange *x, uint64_t now, int error);
/* The worker is gone, and the core knows: a reply that has begun is cut. */
void exchange_cut(struct exchange *x);
/* The core has cancelled it. The slot stays busy. */
void exchange_cancelled(struct exchange *x);

#endif
