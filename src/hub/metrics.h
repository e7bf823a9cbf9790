/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics as documentation. */
#ifndef HUB_METRICS_H
#define HUB_METRICS_H

#include "base/buffer.h"

/* Appends docs/metrics.md. 0 or WEIR_ENOMEM. */
int hub_metrics_markdown(struct buffer *out);

#endif
