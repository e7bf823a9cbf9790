/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_mono_ms(void);
uint64_t clock_unix_ms(void); /* wall clock */

#endif
