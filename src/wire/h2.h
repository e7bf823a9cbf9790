/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 session between hub and worker (RFC 9113, by nghttp2), as both ends open it. */
#ifndef WIRE_H2_H
#define WIRE_H2_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>

enum { H2_TABLE_SIZE = 16 * 1024 }; /* HPACK's dynamic table, either direction */

struct h2_handlers {
    nghttp2_on_begin_headers_callback begin_headers;
    nghttp2_on_header_callback header;
    nghttp2_on_frame_recv_callback frame;
    nghttp2_on_data_chunk_recv_callback data_chunk;
    nghttp2_on_invalid_frame_recv_callback invalid_frame; /* may be NULL */
    nghttp2_on_stream_close_callback stream_close;
};

/* A session whose windows its owner opens, and which keeps no closed streams. 0 or WEIR_ENOMEM. */
int h2_session_new(bool server, const struct h2_handlers *handlers, void *arg, nghttp2_session **ret);
/* Submits the first SETTINGS, and opens the connection's window as far as it goes: bodies have windows of
   their own. 0 or WEIR_ENOMEM. */
int h2_session_begin(nghttp2_session *session, const nghttp2_settings_entry *settings, size_t count);

#endif
