/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topics: a chat. What you write goes to all who have joined under a name of their own, and to those who come
 * back under one: what was said meanwhile waits for them.
 *
 *   weir hub &
 *   topics ada           (in one terminal)
 *   topics bob           (in another)
 *
 * Ctrl-D leaves for a while, "/quit" for good. --hub URL names another hub than that of this machine.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static const char *hub;

struct listener {
    const char *name;
    int stop; /* atomic */
};

static int complain(const char *what, int err, const weir_client *client) {
    const char *detail = client ? weir_client_detail(client) : "";
    fprintf(stderr, "topics: %s: %s%s%s\n", what, weir_strerror(err), detail[0] ? ": " : "", detail);
    return 1;
}

/* Prints messages until it is told to stop. One is acknowledged when it has been printed: if this program
   dies before, it comes again. */
static void *listen_to_chat(void *arg) {
    struct listener *l = arg;
    weir_client *client = NULL; /* one of its own: a client is used by one thread at a time */
    int err = weir_client_open(&(weir_client_options){.hub = hub}, &client);
    while (err == 0 && !__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
        weir_message *m = NULL;
        err = weir_client_next(client, "chat", l->name, 500, WEIR_ACK_EXPLICIT, &m);
        if (err == WEIR_EAGAIN) {
            err = 0;
            continue;
        }
        if (err != 0) break;
        printf("%s\n", (const char *)m->body);
        fflush(stdout);
        err = weir_client_acknowledge(client, "chat", l->name, m->id);
        weir_message_free(&m);
    }
    if (err != 0) complain("listening", err, client);
    weir_client_free(&client);
    return NULL;
}

/* Publishes the lines of standard input. True: "/quit". */
static int talk(weir_client *client, const char *name) {
    char line[1000], said[1200];
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "/quit") == 0) return 1;
        int size = snprintf(said, sizeof(said), "%.100s: %s", name, line);
        int err = weir_client_publish(client, "chat", "text/plain", said, (size_t)size);
        if (err != 0) complain("not said", err, client);
    }
    return 0;
}

int main(int argc, char **argv) {
    hub = getenv("WEIR_HUB");
    if (argc == 4 && strcmp(argv[1], "--hub") == 0) {
        hub = argv[2];
    } else if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: topics [--hub URL] NAME\n");
        return 2;
    }
    struct listener listener = {.name = argv[argc - 1]};
    pthread_t thread;
    weir_client *client = NULL;
    int err = weir_client_open(&(weir_client_options){.hub = hub}, &client);
    if (err == 0) err = weir_client_subscribe(client, "chat", listener.name);
    if (err == 0 && pthread_create(&thread, NULL, listen_to_chat, &listener) != 0) err = WEIR_ENOMEM;
    if (err == 0) {
        int quit = talk(client, listener.name);
        __atomic_store_n(&listener.stop, 1, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        if (quit) err = weir_client_unsubscribe(client, "chat", listener.name);
    }
    int status = err == 0 ? 0 : complain("chat", err, client);
    weir_client_free(&client);
    return status;
}
