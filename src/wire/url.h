/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http and https URLs (RFC 9110 4.2) that somebody else has made and this program is to call. Strict, so that
 * no other parser can read another host or path out of the same text: no user, no fragment, nothing but the
 * characters of RFC 3986, no dot segments however they are encoded. No I/O, no state.
 */
#ifndef WIRE_URL_H
#define WIRE_URL_H

#include "base/slice.h"

/* Parts as sent, but for the port, which is 80 or 443 when none is given. */
struct url {
    bool https;
    struct slice host; /* a name, an IPv4 address, or an IPv6 one in brackets */
    unsigned port;
    struct slice path;  /* may be empty, which stands for "/" */
    struct slice query; /* without the '?'; p NULL: there is none */
};

/* True and *ret, which borrows from text. */
bool url_parse(struct slice text, struct url *ret);
/* Whether url is what prefix says, or below it: the same scheme, host and port, and a path that begins with
   prefix's and goes on there, if it does, with another segment. prefix has no query. */
bool url_below(const struct url *url, const struct url *prefix);

#endif
