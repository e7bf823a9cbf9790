/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as people write them. */
#include "io/private.h"
#include "weir/weir.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/un.h>

static int copy(char *dst, size_t room, struct slice s) {
    if (s.n >= room || memchr(s.p, '\0', s.n)) return WEIR_EINVAL;
    memcpy(dst, s.p, s.n);
    dst[s.n] = '\0';
    return 0;
}

int io_address_parse(const char *text, struct io_address *ret) {
    struct io_address a = {0};
    struct slice s = slice_of(text);
    if (s.n > 5 && memcmp(s.p, "unix:", 5) == 0) {
        a.is_unix = true;
        if (copy(a.path, sizeof(a.path), (struct slice){s.p + 5, s.n - 5}) != 0) return WEIR_EINVAL;
        *ret = a;
        return 0;
    }
    const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    if (!colon) return WEIR_EINVAL;
    struct slice host = {s.p, (size_t)(colon - s.p)};
    struct slice port = {colon + 1, s.n - host.n - 1};
    uint64_t number;
    if (!slice_u64(port, &number) || number > 65535) return WEIR_EINVAL;
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host.p++;
        host.n -= 2;
    } else if (memchr(host.p, ':', host.n)) {
        return WEIR_EINVAL; /* IPv6 wants brackets */
    }
    if (copy(a.host, sizeof(a.host), host) != 0 || copy(a.port, sizeof(a.port), port) != 0)
        return WEIR_EINVAL;
    *ret = a;
    return 0;
}

int io_address_resolve(const struct io_address *a, bool passive, unsigned index, struct sockaddr_storage *ret,
                       socklen_t *ret_size) {
    if (a->is_unix) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        if (index > 0) return WEIR_ECONNECT;
        memcpy(sa.sun_path, a->path, sizeof(sa.sun_path));
        memcpy(ret, &sa, sizeof(sa));
        *ret_size = sizeof(sa);
        return 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = (passive ? AI_PASSIVE : 0) | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, &list) != 0) return WEIR_ECONNECT;
    const struct addrinfo *found = list;
    while (found && index-- > 0) found = found->ai_next;
    if (found) {
        memcpy(ret, found->ai_addr, found->ai_addrlen);
        *ret_size = found->ai_addrlen;
    }
    freeaddrinfo(list);
    return found ? 0 : WEIR_ECONNECT;
}

void io_sockaddr_text(const struct sockaddr *sa, char *text, size_t size) {
    char host[64] = "?";
    int port = 0;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        host[0] = '[';
        inet_ntop(AF_INET6, &in6->sin6_addr, host + 1, sizeof(host) - 2);
        strcat(host, "]");
        port = ntohs(in6->sin6_port);
    }
    snprintf(text, size, "%s:%d", host, port);
}
