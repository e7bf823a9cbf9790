/* SPDX-License-Identifier: Apache-2.0 */
/* A stored body on its way out: as a struct body, which reads a blob as it is consumed. Loop thread. */
#ifndef DURABLE_OUTLET_H
#define DURABLE_OUTLET_H

#include "store/store.h"
#include "wire/body.h"

/* *ret: a body with one reference, which is the caller's; NULL when it is empty. Bytes in place are copied
   (and may be replayed); a blob must stay until the body is finished or abandoned. A blob that cannot be read
   aborts the body with WEIR_EIO. 0 or WEIR_ENOMEM. */
int outlet_open(struct store *store, uint32_t shard, const struct store_body *from, struct body **ret);

#endif
