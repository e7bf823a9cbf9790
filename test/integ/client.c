/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libweir's client, a call per line of standard input: words separated by tabs, the first one is the call's
 * name. For each a line comes back: the error's number, weir_client_detail, and what the call gives. Bodies
 * are in hexadecimal, "-" stands for NULL. t34_client.py writes the lines.
 *
 *     client HUB TOKEN TIMEOUT_MS ATTEMPTS MAX_BODY     (0 and "-": the default)
 */
#include <weir/weir.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 40, CROWD = 32 };

static weir_client *client;
static weir_client_options options;

static const char *text(const char *word) {
    return strcmp(word, "-") == 0 ? NULL : word;
}

static unsigned number(const char *word) {
    return (unsigned)strtoul(word, NULL, 10);
}

static unsigned digit(char c) {
    return (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static unsigned char *bytes(const char *hex, size_t *ret_size) {
    size_t n = strlen(hex) / 2;
    unsigned char *to = malloc(n + 1);
    if (!to) exit(1);
    for (size_t i = 0; i < n; i++) to[i] = (unsigned char)(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
    *ret_size = n;
    return to;
}

static void begin(int err) {
    printf("%d\t%s", err, weir_client_detail(client));
}

static void put(const char *value) {
    printf("\t%s", value ? value : "-");
}

static void put_number(uint64_t n) {
    printf("\t%" PRIu64, n);
}

/* A NUL stands behind it. */
static void put_body(const void *body, size_t size) {
    const unsigned char *p = body;
    putchar('\t');
    for (size_t i = 0; i < size; i++) printf("%02x", p[i]);
    if (p[size] != 0) printf("(no NUL)");
}

/* ---- topics ---- */

static void publish(char **w) {
    size_t n;
    unsigned char *body = bytes(w[3], &n);
    begin(weir_client_publish(client, w[1], text(w[2]), body, n));
    free(body);
}

static void next(char **w) {
    weir_message *m = NULL;
    int err = weir_client_next(client, w[1], w[2], number(w[3]), number(w[4]), &m);
    begin(err);
    if (m) {
        put_number(m->id);
        put_number(m->published_ms);
        put_number(m->delivery);
        put(m->type);
        put_body(m->body, m->size);
    }
    weir_message_free(&m);
    weir_message_free(&m);
}

static void subscribe(char **w) {
    begin(weir_client_subscribe(client, w[1], w[2]));
}

static void unsubscribe(char **w) {
    begin(weir_client_unsubscribe(client, w[1], w[2]));
}

static void acknowledge(char **w) {
    begin(weir_client_acknowledge(client, w[1], w[2], strtoull(w[3], NULL, 10)));
}

/* ---- jobs ---- */

/* METHOD TARGET DELAY_MS BODY, then names and values. */
static void submit(char **w) {
    weir_field fields[WORDS];
    weir_request r = {
        .method = text(w[1]), .target = w[2], .delay_ms = strtoull(w[3], NULL, 10), .fields = fields};
    unsigned char *body = text(w[4]) ? bytes(w[4], &r.size) : NULL;
    char id[WEIR_JOB_ID_SIZE] = "untouched";
    r.body = body;
    for (char **f = w + 5; f[0]; f += 2) fields[r.field_count++] = (weir_field){f[0], f[1]};
    begin(weir_client_submit(client, &r, id));
    put(id);
    free(body);
}

static void state(char **w) {
    weir_durable *job = NULL;
    begin(weir_client_state(client, w[1], &job));
    if (job) {
        put(job->state);
        put_number((uint64_t)job->ended);
        put_number(job->status);
        put_number(job->hop);
        put_number(job->failed_attempts);
        put(job->service);
        put(job->progress);
        put(job->reason);
        put(job->json);
    }
    weir_durable_free(&job);
    weir_durable_free(&job);
}

static void result(char **w) {
    weir_answer *answer = NULL;
    begin(weir_client_result(client, w[1], number(w[2]), &answer));
    if (answer) {
        put_number(answer->status);
        put_body(answer->body, answer->size);
        put(weir_answer_header(answer, "CONTENT-Type"));
        for (size_t i = 0; i < answer->field_count; i++) {
            put(answer->fields[i].name);
            put(answer->fields[i].value);
        }
    }
    weir_answer_free(&answer);
    weir_answer_free(&answer);
}

static void cancel(char **w) {
    begin(weir_client_cancel(client, w[1]));
}

/* ---- several clients at once ---- */

struct member {
    pthread_t thread;
    unsigned index, messages, got;
    const char *topic;
    int err;
};

/* Publishes, and takes as many messages of the one subscription that all share. */
static void *attend(void *arg) {
    struct member *m = arg;
    weir_client *own = NULL;
    m->err = weir_client_open(&options, &own);
    for (unsigned i = 0; m->err == 0 && i < m->messages; i++)
        m->err = weir_client_publish(own, m->topic, NULL, &m->index, sizeof m->index);
    while (m->err == 0 && m->got < m->messages) {
        weir_message *message = NULL;
        m->err = weir_client_next(own, m->topic, "s", 10000, WEIR_ACK_EXPLICIT, &message);
        if (m->err == 0) m->err = weir_client_acknowledge(own, m->topic, "s", message->id);
        if (m->err == 0) m->got++;
        weir_message_free(&message);
    }
    weir_client_free(&own);
    return NULL;
}

/* TOPIC CLIENTS MESSAGES: gives the number of messages that came. */
static void crowd(char **w) {
    struct member members[CROWD] = {0};
    unsigned n = number(w[2]), got = 0;
    int err = 0;
    for (unsigned i = 0; i < n; i++) {
        members[i] = (struct member){.index = i, .topic = w[1], .messages = number(w[3])};
        if (pthread_create(&members[i].thread, NULL, attend, &members[i]) != 0) exit(1);
    }
    for (unsigned i = 0; i < n; i++) {
        pthread_join(members[i].thread, NULL);
        got += members[i].got;
        if (members[i].err != 0) err = members[i].err;
    }
    printf("%d\t\t%u", err, got);
}

/* ---- lines ---- */

static bool call(char **words) {
    static const struct {
        const char *name;
        void (*run)(char **words);
    } calls[] = {{"publish", publish},
                 {"next", next},
                 {"subscribe", subscribe},
                 {"unsubscribe", unsubscribe},
                 {"acknowledge", acknowledge},
                 {"submit", submit},
                 {"state", state},
                 {"result", result},
                 {"cancel", cancel},
                 {"crowd", crowd}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, words[0]) != 0) continue;
        calls[i].run(words);
        putchar('\n');
        fflush(stdout);
        return true;
    }
    return false;
}

int main(int argc, char **argv) {
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    if (argc != 6) return 2;
    options = (weir_client_options){.hub = text(argv[1]),
                                    .token = text(argv[2]),
                                    .timeout_ms = number(argv[3]),
                                    .attempts = number(argv[4]),
                                    .max_body = number(argv[5])};
    int err = weir_client_open(&options, &client);
    printf("%d\t\n", err);
    fflush(stdout);
    while (err == 0 && (n = getline(&line, &room, stdin)) > 0) {
        char *words[WORDS] = {0}, *rest = line;
        line[n - 1] = '\0';
        for (size_t i = 0; rest && i < WORDS - 1; i++) words[i] = strsep(&rest, "\t");
        if (!call(words)) return 2;
    }
    free(line);
    weir_client_free(&client);
    weir_client_free(&client);
    return err == 0 ? 0 : 1;
}
