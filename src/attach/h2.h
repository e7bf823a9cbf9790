/* SPDX-License-Identifier: Apache-2.0 */
/* The link protocol "reverse HTTP/2". */
#ifndef ATTACH_H2_H
#define ATTACH_H2_H

struct link;
struct worker_port;

/* Makes the protocol's state for a link and sets l->protocol; *ret_port is its worker's port. 0 or
 * WEIR_ENOMEM. */
int h2_prepare(struct link *l, struct worker_port **ret_port);
/* The 101 has been written: reverses the roles. 0 or WEIR_ENOMEM. */
int h2_start(struct link *l);

#endif
