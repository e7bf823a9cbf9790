/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this is an AddressSanitizer build, and its poisoning of memory (nothing otherwise). */
#ifndef BASE_ASAN_H
#define BASE_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define BASE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_ASAN 1
#endif
#endif

#ifdef BASE_ASAN
#include <sanitizer/asan_interface.h>
#else
#define BASE_ASAN 0
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#endif
