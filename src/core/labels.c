/* SPDX-License-Identifier: Apache-2.0 */
#include "core/labels.h"
#include "weir/weir.h"

static bool has(struct slice labels, struct slice item) {
    bool any_value = !memchr(item.p, '=', item.n);
    while (labels.p) {
        struct slice label = slice_next(&labels, ',');
        if (slice_eq(label, item)) return true;
        struct slice rest = label;
        if (any_value && slice_eq(slice_next(&rest, '='), item)) return true;
    }
    return false;
}

bool core_labels_fulfil(struct slice labels, struct slice need) {
    while (need.n) {
        struct slice item = slice_next(&need, ',');
        if (item.n && !has(labels, item)) return false;
    }
    return true;
}

struct text {
    char *bytes;
    size_t n;
};

static bool append(struct text *to, struct slice from) {
    if (from.n > LABELS_MOST - to->n) return false;
    if (from.n) memcpy(to->bytes + to->n, from.p, from.n);
    to->n += from.n;
    return true;
}

/* What a label can be made of: visible ASCII but the comma. */
static bool is_label(struct slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == ',') return false;
    return true;
}

/* The item with its values put in. 0; WEIR_ENOTFOUND: the message lacks one; WEIR_EINVAL. */
static int put_values(const struct core_config *config, const void *message, struct slice item,
                      struct text *to) {
    while (item.n) {
        const char *open = memmem(item.p, item.n, "${", 2);
        size_t before = open ? (size_t)(open - item.p) : item.n;
        if (!append(to, (struct slice){item.p, before})) return WEIR_EINVAL;
        item = (struct slice){item.p + before, item.n - before};
        const char *close = item.n ? memchr(item.p, '}', item.n) : NULL;
        if (!close) return append(to, item) ? 0 : WEIR_EINVAL;
        struct slice name = {item.p + 2, (size_t)(close - item.p) - 2};
        struct slice value =
            config->value ? config->value(config->ctx, message, CORE_VALUE_HEADER, name) : (struct slice){0};
        if (!value.n) return WEIR_ENOTFOUND;
        if (!is_label(value) || !append(to, value)) return WEIR_EINVAL;
        item = (struct slice){close + 1, item.n - name.n - 3};
    }
    return 0;
}

int core_labels_resolve(const struct core_config *config, const void *message, struct slice list,
                        char text[static LABELS_MOST], size_t *n) {
    struct text to = {text, *n};
    while (list.n) {
        struct slice item = slice_next(&list, ',');
        size_t kept = to.n;
        if (to.n && !append(&to, SLICE(","))) return WEIR_EINVAL;
        int err = put_values(config, message, item, &to);
        if (err == WEIR_ENOTFOUND || item.n == 0)
            to.n = kept;
        else if (err != 0)
            return err;
    }
    *n = to.n;
    return 0;
}
