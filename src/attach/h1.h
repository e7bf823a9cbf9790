/* SPDX-License-Identifier: Apache-2.0 */
/* Workers by reverse HTTP/1.1: see h1.c. Loop thread only. */
#ifndef ATTACH_H1_H
#define ATTACH_H1_H

#include "attach/link.h"

/* Whose connection it is. */
struct h1_offer {
    struct slice worker; /* connections with one name, and the same services and labels, are one worker... */
    bool alone;          /* ...but not this one: it is a worker by itself */
    struct slice services; /* "a,b" */
    struct slice labels;
    bool silent; /* it has said nothing on connect */
};

/* Makes the link a connection of its worker, without a slot yet. 0 or a WEIR_E*: nothing has changed then. */
int h1_join(struct link *l, const struct h1_offer *offer);
/* From now on it is a free slot. */
void h1_start(struct link *l);

#endif
