/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: no input may crash or leak; what is taken and passes its checks must print as a file
   that is taken too and prints the same (but for secrets, which are not printed). */
#include "base/assert.h"
#include "hub/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_again(const struct config *c) {
    struct config again;
    struct buffer first, second;
    buffer_init(&first);
    buffer_init(&second);
    ASSERT(config_init(&again) == 0 && config_print(c, &first) == 0);
    char *text = NULL;
    ASSERT(config_text(&again, "printed", buffer_slice(&first), &text) == 0);
    again.token = c->token; /* lent, for the comments that stand for them */
    again.client_token = c->client_token;
    ASSERT(config_print(&again, &second) == 0);
    ASSERT(slice_eq(buffer_slice(&first), buffer_slice(&second)));
    again.token = again.client_token = (struct config_pairs){0};
    buffer_fini(&first);
    buffer_fini(&second);
    config_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config c;
    char *text = NULL;
    if (config_init(&c)) return 0;
    int err = config_text(&c, "fuzz.ini", (struct slice){(const char *)data, size}, &text);
    ASSERT((err != 0) == (text != NULL));
    free(text);
    text = NULL;
    /* Reads no file: what a token-file would name is not ours to open. */
    free(c.token_file);
    free(c.client_token_file);
    c.token_file = c.client_token_file = NULL;
    if (!err) {
        err = config_check(&c, &text);
        ASSERT((err != 0) == (text != NULL));
        free(text);
    }
    if (!err) print_again(&c);
    config_fini(&c);
    return 0;
}
