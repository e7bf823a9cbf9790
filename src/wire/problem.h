/* SPDX-License-Identifier: Apache-2.0 */
/* problem+json bodies (RFC 9457) for the answers that the hub makes itself. */
#ifndef WIRE_PROBLEM_H
#define WIRE_PROBLEM_H

#include "base/buffer.h"

struct problem {
    unsigned status;
    const char *title;                /* NULL: the status' reason phrase */
    struct slice detail;              /* what was wrong and what to do; may be empty */
    struct slice request_id, service; /* may be empty: left out */
};

/* Appends {"type":"about:blank","title":...,"status":...,"detail":...,"request_id":...,"service":...}
   and a newline. 0 or WEIR_ENOMEM (then out is unchanged). */
int problem_write(struct buffer *out, const struct problem *p);

/* The text of a WEIR_E* code and its HTTP status (0: none). */
const char *error_text(int error);
unsigned error_status(int error);

#endif
