/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP GET, blocking, for commands that ask a hub's admin listener something. */
#ifndef CLI_FETCH_H
#define CLI_FETCH_H

#include "base/buffer.h"

/* Asks address (HOST:PORT or unix:PATH) for path; appends the body (at most 64 MiB) to body. 0 and
   *ret_status; or WEIR_EINVAL (address), WEIR_ECONNECT, WEIR_ETIMEDOUT, WEIR_ECLOSED, WEIR_EMALFORMED,
   WEIR_ETOOBIG, WEIR_ENOMEM. timeout_ms bounds connecting and each wait for bytes. */
int fetch(const char *address, const char *path, unsigned timeout_ms, unsigned *ret_status,
          struct buffer *body);

#endif
