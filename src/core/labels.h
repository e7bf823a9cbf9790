/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of workers, "k=v, k=v, k", and what services ask of them. Pure. */
#ifndef CORE_LABELS_H
#define CORE_LABELS_H

#include "core/core.h"

/* The longest list of labels that a job can need. */
enum { LABELS_MOST = 1024 };

/* Is every item of need among the labels? An item "k" is fulfilled by any "k=v" too. */
bool core_labels_fulfil(struct slice labels, struct slice need);
/* Appends to text (LABELS_MOST bytes, *n of them used) the items of a service's list, each ${name} replaced
   by the message's value of that name; items whose value the message does not have are left out. 0, or
   WEIR_EINVAL: a value that no label can have, or too long. */
int core_labels_resolve(const struct core_config *config, const void *message, struct slice list,
                        char text[static LABELS_MOST], size_t *n);

#endif
