/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of weir.h's error table. */
#include "weir/weir.h"

const char *weir_strerror(int error) {
    switch (error) {
    case WEIR_OK:
        return "ok";
#define ERROR_CASE(name, value, text, status, retryable)                                                     \
    case value:                                                                                              \
        return text;
        WEIR_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return "unknown error";
    }
}

const char *weir_version(void) {
    return WEIR_VERSION;
}
