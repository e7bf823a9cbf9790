/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hubs in one process, each with two workers in that process that attach without any listener
 * (weir_hub_connect). Prints "one=ADDRESS" and "two=ADDRESS" and serves until stdin ends; then everything
 * must stop by itself. Each hub runs on a thread of its own, each worker too.
 */
#include <weir/weir.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HUBS = 2, WORKERS = 2 };

struct thread {
    pthread_t id;
    int result;
    weir_hub *hub;
    weir_worker *worker;
};

static void *run_hub(void *arg) {
    struct thread *t = arg;
    t->result = weir_hub_run(t->hub);
    return NULL;
}

static void *run_worker(void *arg) {
    struct thread *t = arg;
    t->result = weir_worker_serve(t->worker);
    return NULL;
}

static int name(weir_job *job, void *arg) {
    return weir_reply_printf(job, 200, "text/plain", "%s", (const char *)arg);
}

static int nap(weir_job *job, void *arg) {
    int err = weir_job_wait(job, 300);
    return err != 0 ? err : name(job, arg);
}

/* "size": the worker whose labels say the size that the request asks for; "any": a choice that there is not.
 */
static int by_size(weir_choice *choice, const weir_candidate *workers, size_t count, void *arg) {
    const char *size = weir_choice_header(choice, "X-Size");
    if (strcmp(weir_choice_service(choice), arg) != 0 || !size) return -1;
    for (size_t i = 0; i < count; i++)
        if (strcmp(workers[i].labels, size) == 0 && workers[i].id[0] == 'w' && workers[i].slots == 2)
            return (int)i;
    return (int)count;
}

static void check(int err, const char *what) {
    if (err == 0) return;
    fprintf(stderr, "embed: %s: %s\n", what, weir_strerror(err));
    exit(1);
}

static void begin(struct thread *t, void *(*run)(void *)) {
    if (pthread_create(&t->id, NULL, run, t) != 0) {
        perror("embed");
        exit(1);
    }
}

static void end(struct thread *t, const char *what) {
    pthread_join(t->id, NULL);
    check(t->result, what);
}

static void bad_options(void) {
    weir_hub *hub = NULL;
    char *text = NULL;
    int err = weir_hub_new((const char *const[]){"no-such-key", "1", NULL}, &hub, &text);
    if (err >= 0 || hub != NULL || text == NULL || strstr(text, "no-such-key") == NULL) {
        fprintf(stderr, "embed: an unknown key gave %d and \"%s\"\n", err, text ? text : "");
        exit(1);
    }
    free(text);
}

int main(void) {
    static char labels[HUBS][4] = {"one", "two"}, names[WORKERS][4] = {"w0", "w1"}, size[] = "size";
    static const char *const sizes[WORKERS] = {"small", "big"};
    struct thread hubs[HUBS] = {0}, over_zmq[HUBS] = {0}, workers[HUBS][WORKERS] = {0};
    bad_options();
    for (int h = 0; h < HUBS; h++) {
        const char *const pairs[] = {"listen",      "127.0.0.1:0", "workers",      "127.0.0.1:0",    "admin",
                                     "127.0.0.1:0", "zmq",         "inproc://hub", "route",          "/=name",
                                     "route",       "/nap=nap",    "route",        "/within=within", "route",
                                     "/size=size",  NULL};
        char *text = NULL;
        int err = weir_hub_new(pairs, &hubs[h].hub, &text);
        check(err, text ? text : "weir_hub_new");
        weir_hub_choose(hubs[h].hub, by_size, size);
        begin(&hubs[h], run_hub);
        for (int w = 0; w < WORKERS; w++) {
            struct thread *t = &workers[h][w];
            int fd = -1;
            check(weir_hub_connect(hubs[h].hub, &fd), "weir_hub_connect");
            check(weir_worker_open(
                      &(weir_worker_options){.fd = fd, .slots = 2, .id = names[w], .labels = sizes[w]},
                      &t->worker),
                  "weir_worker_open");
            check(weir_worker_offer(t->worker, "size", name, names[w]), "weir_worker_offer");
            check(weir_worker_offer(t->worker, "name", name, labels[h]), "weir_worker_offer");
            check(weir_worker_offer(t->worker, "nap", nap, labels[h]), "weir_worker_offer");
            begin(t, run_worker);
        }
        struct thread *z = &over_zmq[h];
        check(weir_worker_open(&(weir_worker_options){.hub = "inproc+zmq://hub",
                                                      .zmq_context = weir_hub_zmq_context(hubs[h].hub),
                                                      .id = "inproc",
                                                      .slots = 2},
                               &z->worker),
              "weir_worker_open");
        check(weir_worker_offer(z->worker, "within", name, labels[h]), "weir_worker_offer");
        begin(z, run_worker);
        printf("%s=%s\n%s-admin=%s\n", labels[h], weir_hub_address(hubs[h].hub, "listen"), labels[h],
               weir_hub_address(hubs[h].hub, "admin"));
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    for (int h = 0; h < HUBS; h++) {
        weir_worker_stop(over_zmq[h].worker);
        end(&over_zmq[h], "weir_worker_serve");
        weir_worker_free(&over_zmq[h].worker); /* before the hub, whose context it is in */
        weir_hub_stop(hubs[h].hub);
        end(&hubs[h], "weir_hub_run");
        weir_hub_free(&hubs[h].hub);
        for (int w = 0; w < WORKERS; w++) { /* its only hub is gone: it ends by itself */
            end(&workers[h][w], "weir_worker_serve");
            weir_worker_free(&workers[h][w].worker);
        }
    }
    puts("stopped");
    return 0;
}
