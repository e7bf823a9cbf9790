/* SPDX-License-Identifier: Apache-2.0 */
/* weir.h's embedded hub: a configuration from pairs, and a hub that owns it. */
#include "hub/hub.h"
#include "weir/weir.h"
#include <stdlib.h>

struct weir_hub {
    struct config config;
    struct hub *hub;
};

int weir_hub_new(const char *const *pairs, weir_hub **ret_hub, char **ret_text) {
    weir_hub *h = calloc(1, sizeof(*h));
    if (!h) return WEIR_ENOMEM;
    int err = config_init(&h->config);
    for (size_t i = 0; err == 0 && pairs && pairs[i]; i += 2)
        err = pairs[i + 1] ? config_set(&h->config, pairs[i], pairs[i + 1], ret_text) : WEIR_EINVAL;
    if (err == 0) err = config_check(&h->config, ret_text);
    if (err == 0) err = hub_new(&h->config, &h->hub, ret_text);
    if (err != 0) {
        weir_hub_free(&h);
        return err;
    }
    *ret_hub = h;
    return 0;
}

int weir_hub_run(weir_hub *h) {
    return hub_run(h->hub);
}

void weir_hub_choose(weir_hub *h, weir_choose *choose, void *arg) {
    hub_choose(h->hub, choose, arg);
}

void weir_hub_stop(weir_hub *h) {
    hub_stop(h->hub);
}

const char *weir_hub_address(const weir_hub *h, const char *listener) {
    return hub_address(h->hub, listener);
}

void *weir_hub_zmq_context(const weir_hub *h) {
    return hub_zmq_context(h->hub);
}

int weir_hub_connect(weir_hub *h, int *ret_fd) {
    return hub_connect(h->hub, ret_fd);
}

void weir_hub_free(weir_hub **hub) {
    if (!hub || !*hub) return;
    weir_hub *h = *hub;
    hub_free(&h->hub);
    config_fini(&h->config);
    free(h);
    *hub = NULL;
}
