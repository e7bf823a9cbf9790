/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread at a time. Never waits longer than the descriptor makes it: what a non-blocking one does
 * not take is held, up to HOLD_MAX bytes; lines beyond that are dropped whole, and counted.
 */
#include "base/log.h"
#include "base/clock.h"
#include "weir/weir.h"
#include <errno.h>
#include <unistd.h>

enum { FLUSH_AT = 64 << 10, HOLD_MAX = 1 << 20 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_init(struct log *l, int fd, enum log_level level, bool json) {
    *l = (struct log){.fd = fd, .level = level, .json = json};
}

void log_fini(struct log *l) {
    log_flush(l);
    buffer_fini(&l->out);
}

void log_flush(struct log *l) {
    while (buffer_size(&l->out)) {
        struct slice s = buffer_slice(&l->out);
        ssize_t n = write(l->fd, s.p, s.n);
        if (n >= 0) {
            buffer_consume(&l->out, (size_t)n);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            for (size_t i = 0; i < s.n; i++) l->dropped += s.p[i] == '\n';
            buffer_reset(&l->out);
        }
    }
}

/* Ends a line that was begun at size: keeps it, or takes it back when it failed or is too much. */
static void end_line(struct log *l, size_t size, int error) {
    if (error || buffer_size(&l->out) > HOLD_MAX) {
        l->out.end = l->out.start + size;
        l->dropped++;
    }
    if (buffer_size(&l->out) >= FLUSH_AT) log_flush(l);
}

/* Text with control characters as \xNN: what a peer sent can neither start a line nor steer a terminal. */
static int append_plain(struct buffer *b, struct slice text) {
    size_t done = 0;
    int r = 0;
    for (size_t i = 0; i < text.n && !r; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 0x20 && c != 0x7f) continue;
        r = buffer_append(b, text.p + done, i - done);
        if (!r) r = buffer_printf(b, "\\x%02x", c);
        done = i + 1;
    }
    return r ? r : buffer_append(b, text.p + done, text.n - done);
}

static int append_line(struct log *l, enum log_level level, const char *event, struct slice text) {
    struct buffer *b = &l->out;
    char now[CLOCK_TEXT];
    int r = l->json ? buffer_append_slice(b, SLICE("{\"time\":\"")) : 0;
    if (!r) r = buffer_append_slice(b, clock_text(now, clock_unix_ms()));
    if (!r)
        r = buffer_printf(b, l->json ? "\",\"level\":\"%s\",\"event\":\"%s\",\"text\":" : " %s %s ",
                          level_names[level], event);
    if (!r) r = l->json ? log_json_string(b, text) : append_plain(b, text);
    if (!r) r = buffer_append_slice(b, l->json ? SLICE("}\n") : SLICE("\n"));
    return r;
}

void log_event(struct log *l, enum log_level level, const char *event, const char *format, ...) {
    if (!log_wants(l, level)) return;
    struct buffer text;
    buffer_init(&text);
    va_list args;
    va_start(args, format);
    size_t size = buffer_size(&l->out);
    int r = buffer_vprintf(&text, format, args);
    va_end(args);
    if (!r) r = append_line(l, level, event, buffer_slice(&text));
    end_line(l, size, r);
    buffer_fini(&text);
    if (level == LOG_ERROR) log_flush(l);
}

void log_raw(struct log *l, struct slice line) {
    size_t size = buffer_size(&l->out);
    end_line(l, size, buffer_append_slice(&l->out, line));
}

bool log_level_parse(const char *text, enum log_level *ret_level) {
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *ret_level = (enum log_level)i;
        return true;
    }
    return false;
}

/* Length of the UTF-8 character at s (RFC 3629 section 4); 0 when there is none. */
static size_t utf8_length(struct slice s) {
    const unsigned char *p = (const unsigned char *)s.p;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    size_t n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (s.n < n) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    /* overlong, surrogate, beyond U+10FFFF */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return n;
}

static int append_json_escape(struct buffer *b, unsigned char c) {
    static const char names[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *at = c ? strchr(names, c) : NULL;
    if (at) return buffer_append(b, (char[]){'\\', letters[at - names]}, 2);
    if (c >= 0x80) return buffer_append_slice(b, SLICE("\xef\xbf\xbd"));
    return buffer_printf(b, "\\u%04x", c);
}

/* The text and its quotes, by runs that need no change. */
static int append_json(struct buffer *b, struct slice text) {
    int r = buffer_append(b, "\"", 1);
    size_t done = 0;
    for (size_t i = 0, n; i < text.n && !r; i += n) {
        unsigned char c = (unsigned char)text.p[i];
        n = utf8_length((struct slice){text.p + i, text.n - i});
        if (n && c >= 0x20 && c != '"' && c != '\\') continue;
        r = buffer_append(b, text.p + done, i - done);
        if (!r) r = append_json_escape(b, c);
        n = 1;
        done = i + 1;
    }
    if (!r) r = buffer_append(b, text.p + done, text.n - done);
    return r ? r : buffer_append(b, "\"", 1);
}

int log_json_string(struct buffer *b, struct slice text) {
    size_t size = buffer_size(b);
    int r = append_json(b, text);
    if (r) b->end = b->start + size;
    return r;
}
