/* SPDX-License-Identifier: Apache-2.0 */
/* problem+json (RFC 9457) and the table of errors of weir.h. */
#include "wire/problem.h"
#include "base/log.h"
#include "weir/weir.h"
#include "wire/head.h"

/* ,"name":"text" unless the text is empty. */
static int write_member(struct buffer *out, const char *name, struct slice text) {
    if (text.n == 0) return 0;
    int r = buffer_printf(out, ",\"%s\":", name);
    return r ? r : log_json_string(out, text);
}

static int write_all(struct buffer *out, const struct problem *p) {
    const char *title = p->title ? p->title : status_text(p->status);
    int r = buffer_append_slice(out, SLICE("{\"type\":\"about:blank\""));
    if (!r) r = write_member(out, "title", slice_of(title[0] ? title : "Unknown"));
    if (!r) r = buffer_printf(out, ",\"status\":%u", p->status);
    if (!r) r = write_member(out, "detail", p->detail);
    if (!r) r = write_member(out, "request_id", p->request_id);
    if (!r) r = write_member(out, "service", p->service);
    return r ? r : buffer_append_slice(out, SLICE("}\n"));
}

int problem_write(struct buffer *out, const struct problem *p) {
    size_t before = buffer_size(out);
    int r = write_all(out, p);
    if (r) out->end = out->start + before;
    return r;
}

const char *error_text(int error) {
    return error == WEIR_OK ? "success" : weir_strerror(error);
}

unsigned error_status(int error) {
    switch (error) {
#define ERROR_STATUS(name, value, text, status, retryable)                                                   \
    case value:                                                                                              \
        return status;
        WEIR_ERRORS(ERROR_STATUS)
#undef ERROR_STATUS
    default:
        return 0;
    }
}
