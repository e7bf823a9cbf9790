/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP messages as the store keeps them: their heads as HTTP/1.1 text, with the length of the stored body. */
#ifndef DURABLE_RECORD_H
#define DURABLE_RECORD_H

#include "base/buffer.h"
#include "store/store.h"
#include "wire/message.h"

/* Appends the head of a request as text. host: when it names none. 0 or WEIR_ENOMEM. */
int record_request(struct buffer *out, const struct http_head *head, const struct store_body *body,
                   struct slice host);
/* The same of an answer, in two steps, as its body comes later: all but its length, and the rest. */
int record_answer(struct buffer *out, const struct http_head *head);
int record_answer_end(struct buffer *out, unsigned status, const struct store_body *body);
/* The message that such a text is the head of, without body; arena_limit as message_new, but for what the
   head itself takes. 0, WEIR_ENOMEM, or WEIR_ECORRUPT. */
int record_message(struct slice text, size_t arena_limit, struct message **ret);

static inline uint64_t record_size(const struct store_body *body) {
    return body->blob ? body->size : body->bytes.n;
}

#endif
