/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log: one line per event, text or JSON, with an event id that tests and operators can
 * wait for. Fields come as (name, format, value) through log_field calls between begin and end:
 *
 *     log_event(log, LOG_INFO, "worker-attached", "worker %s", id);
 *
 * Text: 2026-01-01T12:00:00.123Z info worker-attached worker w1
 * JSON: {"time":"...","level":"info","event":"worker-attached","text":"worker w1"}
 * Lines gather in memory and go out with log_flush (once per loop turn); error lines at once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/buffer.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    int fd;
    enum log_level level;
    bool json;
    struct buffer out;
    uint64_t dropped; /* lines that could not be written or held */
};

void log_init(struct log *l, int fd, enum log_level level, bool json);
void log_fini(struct log *l); /* flushes; does not close fd */
void log_event(struct log *l, enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static inline bool log_wants(const struct log *l, enum log_level level) {
    return level <= l->level;
}
/* A finished line (with its newline) as it is, for the access log. */
void log_raw(struct log *l, struct slice line);
void log_flush(struct log *l);
/* "error", "warn", "info", "debug": true and *ret_level. */
bool log_level_parse(const char *text, enum log_level *ret_level);
/* Appends text as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
int log_json_string(struct buffer *b, struct slice text);

#endif
