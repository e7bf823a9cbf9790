/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/lookup.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ADDRESSES = 8 };

struct lookup {
    struct io_address address;
    struct sockaddr_storage found[ADDRESSES];
    socklen_t sizes[ADDRESSES];
    unsigned count;
    int wake_fd, done, refs; /* done, refs: atomic; the caller's and the thread's */
};

static void unref(struct lookup *l) {
    if (__atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (l->wake_fd >= 0) close(l->wake_fd);
    free(l);
}

static void *resolve(void *arg) {
    struct lookup *l = arg;
    while (l->count < ADDRESSES &&
           io_address_resolve(&l->address, false, l->count, &l->found[l->count], &l->sizes[l->count]) == 0)
        l->count++;
    __atomic_store_n(&l->done, 1, __ATOMIC_RELEASE);
    if (l->wake_fd >= 0) (void)eventfd_write(l->wake_fd, 1);
    unref(l);
    return NULL;
}

static bool needs_resolver(const struct io_address *a) {
    unsigned char bytes[sizeof(struct in6_addr)];
    return !a->is_unix && a->host[0] && inet_pton(AF_INET, a->host, bytes) != 1 &&
           inet_pton(AF_INET6, a->host, bytes) != 1;
}

struct lookup *lookup_start(const struct io_address *a, int wake_fd) {
    struct lookup *l = calloc(1, sizeof *l);
    pthread_t thread;
    if (!l) return NULL;
    l->address = *a;
    l->wake_fd = -1;
    l->refs = 2;
    if (!needs_resolver(a)) {
        resolve(l);
        return l;
    }
    l->wake_fd = dup(wake_fd);
    if (l->wake_fd >= 0 && pthread_create(&thread, NULL, resolve, l) == 0) {
        pthread_detach(thread);
        return l;
    }
    l->refs = 1;
    unref(l);
    return NULL;
}

bool lookup_done(const struct lookup *l) {
    return __atomic_load_n(&l->done, __ATOMIC_ACQUIRE);
}

bool lookup_address(const struct lookup *l, unsigned index, struct sockaddr_storage *ret,
                    socklen_t *ret_size) {
    if (index >= l->count) return false;
    *ret = l->found[index];
    *ret_size = l->sizes[index];
    return true;
}

void lookup_free(struct lookup **l) {
    if (l && *l) unref(*l);
    if (l) *l = NULL;
}
