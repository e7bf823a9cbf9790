/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
    time_t s = (time_t)(unix_ms / 1000);
    struct tm tm;
    char text[40], all[48];
    if (unix_ms == 0 || !gmtime_r(&s, &tm)) return json_null();
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(all, sizeof(all), "%s.%03uZ", text, (unsigned)(unix_ms % 1000));
    return json_string(all);
}
