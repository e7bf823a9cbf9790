/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/h2.h"
#include "weir/weir.h"

int h2_session_new(bool server, const struct h2_handlers *handlers, void *arg, nghttp2_session **ret) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return WEIR_ENOMEM;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return WEIR_ENOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, handlers->begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, handlers->header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, handlers->frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, handlers->data_chunk);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, handlers->invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, handlers->stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, H2_TABLE_SIZE);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_no_auto_ping_ack(option, server); /* the worker chooses when */
    int err = server ? nghttp2_session_server_new2(ret, callbacks, arg, option)
                     : nghttp2_session_client_new2(ret, callbacks, arg, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return err == 0 ? 0 : WEIR_ENOMEM;
}

int h2_session_begin(nghttp2_session *session, const nghttp2_settings_entry *settings, size_t count) {
    int err = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, count);
    if (err == 0)
        err = nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_MAX_WINDOW_SIZE);
    return err == 0 ? 0 : WEIR_ENOMEM;
}
