/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/slice.h"

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_mono_ms(void);
uint64_t clock_unix_ms(void); /* wall clock */

enum { CLOCK_TEXT = sizeof("2026-01-02T03:04:05.678Z") - 1 };
/* Wall-clock milliseconds as RFC 3339 UTC, written into text. */
struct slice clock_text(char text[static CLOCK_TEXT], uint64_t unix_ms);

#endif
