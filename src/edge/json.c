/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/json.h"
#include "base/clock.h"
#include <stdlib.h>

json_t *json_text(struct slice s) {
    json_t *value = json_stringn(s.p ? s.p : "", s.n);
    if (value) return value;
    char *clean = malloc(s.n + 1);
    if (!clean) return NULL;
    for (size_t i = 0; i < s.n; i++) clean[i] = (unsigned char)s.p[i] < 0x80 ? s.p[i] : '?';
    value = json_stringn(clean, s.n);
    free(clean);
    return value;
}

json_t *json_number(uint64_t n) {
    return json_integer((json_int_t)n);
}

json_t *json_time(uint64_t unix_ms) {
    char text[CLOCK_TEXT];
    if (unix_ms == 0) return json_null();
    struct slice s = clock_text(text, unix_ms);
    return json_stringn(s.p, s.n);
}
