/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live blocks are kept in a hash set (open addressing, no tombstones) and not only counted: a program
 * also frees blocks that a shared library made, and hands such libraries blocks of its own to free.
 */
#include "lib/fault.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
void __wrap_free(void *p);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long countdown, count;
static int paused;
/* 0: free. A power of two, at most half taken. Numbers, not pointers: leak checkers must not take the set
   for a user of the blocks, so they are kept inverted. */
static uintptr_t *set;
static size_t set_size, set_taken;

static size_t home(uintptr_t key) {
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (set_size - 1);
}

static void insert(uintptr_t key) {
    size_t i = home(key);
    while (set[i] && set[i] != key) i = (i + 1) & (set_size - 1);
    set_taken += !set[i];
    set[i] = key;
}

static void grow(void) {
    uintptr_t *old = set;
    size_t n = set_size;
    set_size = n ? n * 2 : 4096;
    set = __real_calloc(set_size, sizeof *set);
    if (!set) abort();
    set_taken = 0;
    for (size_t i = 0; i < n; i++)
        if (old[i]) insert(old[i]);
    __real_free(old);
}

static void born(void *p) {
    if (!p) return;
    pthread_mutex_lock(&lock);
    if (set_taken * 2 >= set_size) grow();
    insert(~(uintptr_t)p);
    pthread_mutex_unlock(&lock);
}

/* Must be called before the block is freed: after that another thread may get the same one. True when the
   block was known. */
static bool gone(void *p) {
    uintptr_t key = ~(uintptr_t)p;
    pthread_mutex_lock(&lock);
    size_t mask = set_size - 1, i = set_size ? home(key) : 0;
    while (set_size && set[i] && set[i] != key) i = (i + 1) & mask;
    bool known = set_size && set[i];
    if (known) {
        /* Close the gap: an entry moves down unless its home lies after the gap. */
        for (size_t j = (i + 1) & mask; set[j]; j = (j + 1) & mask) {
            if (((j - home(set[j])) & mask) < ((j - i) & mask)) continue;
            set[i] = set[j];
            i = j;
        }
        set[i] = 0;
        set_taken--;
    }
    pthread_mutex_unlock(&lock);
    return known;
}

static bool fails(void) {
    pthread_mutex_lock(&lock);
    bool r = false;
    if (!paused) {
        count++;
        r = countdown > 0 && --countdown == 0;
    }
    pthread_mutex_unlock(&lock);
    if (r) errno = ENOMEM;
    return r;
}

void *__wrap_malloc(size_t size) {
    void *p = fails() ? NULL : __real_malloc(size);
    born(p);
    return p;
}

void *__wrap_calloc(size_t n, size_t size) {
    void *p = fails() ? NULL : __real_calloc(n, size);
    born(p);
    return p;
}

void *__wrap_realloc(void *p, size_t size) {
    if (p && size == 0) {
        __wrap_free(p);
        return NULL;
    }
    if (fails()) return NULL;
    bool known = p && gone(p);
    void *q = __real_realloc(p, size);
    if (q)
        born(q);
    else if (known)
        born(p);
    return q;
}

char *__wrap_strndup(const char *text, size_t n) {
    size_t size = strnlen(text, n);
    char *p = __wrap_malloc(size + 1);
    if (!p) return NULL;
    memcpy(p, text, size);
    p[size] = '\0';
    return p;
}

char *__wrap_strdup(const char *text) {
    return __wrap_strndup(text, SIZE_MAX);
}

void __wrap_free(void *p) {
    if (p) gone(p);
    __real_free(p);
}

void fault_fail_at(long n) {
    pthread_mutex_lock(&lock);
    countdown = n;
    pthread_mutex_unlock(&lock);
}

long fault_count(void) {
    pthread_mutex_lock(&lock);
    long n = count;
    pthread_mutex_unlock(&lock);
    return n;
}

void fault_reset(void) {
    pthread_mutex_lock(&lock);
    count = countdown = 0;
    paused = 0;
    pthread_mutex_unlock(&lock);
}

long fault_live(void) {
    pthread_mutex_lock(&lock);
    long n = (long)set_taken;
    pthread_mutex_unlock(&lock);
    return n;
}

void fault_pause(void) {
    pthread_mutex_lock(&lock);
    paused++;
    pthread_mutex_unlock(&lock);
}

void fault_resume(void) {
    pthread_mutex_lock(&lock);
    if (paused) paused--;
    pthread_mutex_unlock(&lock);
}
