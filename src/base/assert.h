/* SPDX-License-Identifier: Apache-2.0 */
/* Asserts for programming errors, on in every build. Nothing that a peer sends may reach one. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include <stdint.h>

_Noreturn void assert_failed(const char *file, int line, const char *condition);

#define ASSERT(condition)                                                                                    \
    do {                                                                                                     \
        if (__builtin_expect(!(condition), 0)) assert_failed(__FILE__, __LINE__, #condition);                \
    } while (0)

/* Long-lived structs carry their own magic number first, so that a wrong void * dies at the door. */
#define MAGIC_CHECK(ptr, number)                                                                             \
    do {                                                                                                     \
        ASSERT((ptr) != NULL);                                                                               \
        ASSERT((ptr)->magic == (number));                                                                    \
    } while (0)
/* The same for a pointer that came as void *: CAST(struct conn, c, arg, CONN_MAGIC); */
#define CAST(type, name, from, number)                                                                       \
    type *name = (from);                                                                                     \
    MAGIC_CHECK(name, number)

#endif
