/* SPDX-License-Identifier: Apache-2.0 */
/* Values of JSON pages; NULL when out of memory, as jansson's own. */
#ifndef EDGE_JSON_H
#define EDGE_JSON_H

#include "base/slice.h"
#include <jansson.h>

/* A text from outside, which may be no UTF-8, as JSON must be: then with ? for what is not ASCII. */
json_t *json_text(struct slice s);
json_t *json_number(uint64_t n);
/* Unix ms as RFC 3339 text in UTC, "2026-01-02T03:04:05.678Z"; 0: null. */
json_t *json_time(uint64_t unix_ms);

#endif
