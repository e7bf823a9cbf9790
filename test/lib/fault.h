/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the allocations of a test program, and makes the one that you name fail.
 *
 * Add fault_dep to the dependencies of a test's executable. Its link arguments (--wrap) lead every call
 * of malloc, calloc, realloc, strdup, strndup and free in the program itself (its own files and the static
 * libraries of this project) through fault.c. Calls inside shared libraries (libc, libuv, nghttp2,
 * jansson, cmocka) are not seen: they neither count nor fail. Works with sanitizers.
 *
 * Each allocation of a call failing in turn, until it goes well:
 *
 *     for (long n = 1;; n++) {
 *         long live = fault_live();
 *         fault_fail_at(n);
 *         int r = thing_do(thing);
 *         fault_fail_at(0);
 *         if (r == 0) break;
 *         assert_int_equal(r, WEIR_ENOMEM);
 *         assert_int_equal(fault_live(), live);  // nothing leaked; then check thing's state
 *     }
 *
 * Any thread; the counters are those of the whole program.
 */
#ifndef LIB_FAULT_H
#define LIB_FAULT_H

/* The n-th allocation from now (1: the next) fails, once; 0: none does. realloc counts, whatever it does,
   unless its size is 0. */
void fault_fail_at(long n);
/* Allocations since the last reset (or the start), the failed ones too. */
long fault_count(void);
/* Sets the count to 0 and lets no allocation fail; ends pauses. What lives goes on being known. */
void fault_reset(void);
/* Blocks allocated by the program and not freed yet, from its start on. */
long fault_live(void);
/* Between them nothing counts or fails (for set-up inside a story); blocks stay known. They nest. */
void fault_pause(void);
void fault_resume(void);

#endif
