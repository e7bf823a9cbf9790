/* SPDX-License-Identifier: Apache-2.0 */
/* To be preloaded (LD_PRELOAD): looking up slow.example takes 8 seconds, as with name servers that are gone.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((visibility("default"))) int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    lookup *real;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo"); /* dlsym(3) */
    if (name && strcmp(name, "slow.example") == 0) sleep(8);
    return real(name, service, hints, result);
}
