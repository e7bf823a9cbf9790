/* SPDX-License-Identifier: Apache-2.0 */
/* The hub's CURVE key (RFC 26/CurveZMQ), as Z85 text (RFC 32/Z85). */
#ifndef HUB_CURVE_H
#define HUB_CURVE_H

enum { CURVE_TEXT = 40 };

struct curve_key {
    char secret[CURVE_TEXT + 1], public[CURVE_TEXT + 1]; /* empty: none */
};

/* Reads the secret key from a file, or makes both when there is no such file. 0, or WEIR_EIO or WEIR_ECONFIG
   with *ret_why (static or errno's text). */
int curve_load(const char *path, struct curve_key *ret, const char **ret_why);

#endif
