/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crashes. A child runs batches against the store and tells of each completion through a pipe, in done,
 * before anything else happens; then it is killed, from outside at a random time or by itself in the midst of
 * a done. The parent repeats on the model alone what the child did (world.h says why it can), up to the batch
 * that was under way. What was acknowledged of that one must be there; of the rest any part may be, as long
 * as what is about the same thing is kept in order. So there are few states in which the store may be found;
 * each of them is tried, in a process of its own, and compared with all that can be read.
 */
#include "world.h"
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_BATCHES = 200, MOST_REPORTS = MOST_BATCHES * BATCH };

struct report {
    uint64_t batch, index, blob, message_id, revision;
    int64_t err;
};
struct reports {
    struct report at[MOST_REPORTS];
    size_t count, taken;
};

/* ---- after the crash ---- */

static char *whole_text(struct world *w, enum side side) {
    struct store_op load;
    store_op_init(&load, STORE_JOB_LOAD, NULL);
    world_run(w, side, &load);
    char *lines = text_of_result(w, side, &load, false), *dump = text_of_dump(w, side, true), *text;
    if (asprintf(&text, "%s%s", lines, dump) < 0) abort();
    store_op_fini(&load);
    free(lines);
    free(dump);
    return text;
}

/* Whether the store may keep just those of the batch. */
static bool in_order(const struct batch *b, unsigned mask) {
    for (size_t later = 0; later < b->count; later++)
        for (size_t i = 0; i < later; i++)
            if ((mask >> later & 1) && !(mask >> i & 1) &&
                model_ordered(&b->steps[i].op[MODEL], &b->steps[later].op[MODEL]))
                return false;
    return true;
}

/* The model with those of the batch has this text. */
static bool follows(struct world *w, struct batch *b, unsigned mask, unsigned acknowledged,
                    const char *text) {
    if (!world_replay(w, b, mask, acknowledged)) return false;
    model_crash(w->store[MODEL], NULL, NULL);
    char *its = whole_text(w, MODEL);
    bool same = strcmp(its, text) == 0;
    free(its);
    return same;
}

/* In a child, so that this process's model stays as it is. */
static bool would_follow(struct world *w, struct batch *b, unsigned mask, unsigned acknowledged,
                         const char *text) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) _exit(!follows(w, b, mask, acknowledged, text));
    int status;
    while (waitpid(child, &status, 0) < 0) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void complain(struct world *w, struct batch *b, unsigned acknowledged, const char *real) {
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) abort();
    fputs("what it kept follows from no part of what was under way:\n", f);
    for (size_t i = 0; i < b->count; i++) {
        fputs(acknowledged >> i & 1 ? "  acknowledged: " : "  under way: ", f);
        char *request = text_of_request(&b->steps[i].op[MODEL]);
        fputs(request, f);
        free(request);
    }
    world_replay(w, b, acknowledged, acknowledged);
    model_crash(w->store[MODEL], NULL, NULL);
    char *model = whole_text(w, MODEL);
    fputs("it differs from the model with what was acknowledged in\n", f);
    char *difference = text_difference(model, real);
    fputs(difference, f);
    free(difference);
    fclose(f);
    world_fail(w, "%s", text);
    free(model);
    free(text);
}

/* Opens the subject after b was under way, finds what of b it kept, and lets the model follow. */
static bool settle(struct world *w, struct batch *b, unsigned acknowledged) {
    w->store[REAL] = w->subject->open(w);
    if (!w->store[REAL]) return false;
    char *real = whole_text(w, REAL);
    unsigned mask = 0, end = 1u << b->count;
    for (; mask < end; mask++) {
        bool may = (mask & acknowledged) == acknowledged && in_order(b, mask);
        if (may && would_follow(w, b, mask, acknowledged, real)) break;
    }
    if (mask == end)
        complain(w, b, acknowledged, real);
    else
        follows(w, b, mask, acknowledged, real);
    free(real);
    world_forget(w);
    if (!w->failure) world_resync(w);
    return !w->failure;
}

/* ---- a subject that dies in this process ---- */

static bool die_here(struct world *w) {
    struct batch b;
    batch_generate(w, &b);
    world_submit(w, &b);
    w->subject->crash(w);
    bool ok = settle(w, &b, 0);
    batch_fini(&b);
    return ok;
}

/* ---- the child ---- */

static void report(struct world *w, struct step *step) {
    const struct store_op *op = &step->op[REAL];
    const struct report r = {.batch = w->batches,
                             .index = step->index,
                             .blob = op->blob,
                             .message_id = op->message_id,
                             .revision = op->revision,
                             .err = op->err};
    if (write(w->report_to, &r, sizeof r) != sizeof r) _exit(3);
    if (w->dies_after > 0 && --w->dies_after == 0) kill(getpid(), SIGKILL);
}

static _Noreturn void run_child(struct world *w) {
    bool ok = world_open(w);
    w->report = report;
    for (unsigned i = 0; ok && i < MOST_BATCHES; i++) {
        struct batch b;
        batch_generate(w, &b);
        ok = world_batch(w, &b);
        batch_fini(&b);
    }
    if (ok) kill(getpid(), SIGKILL);
    fprintf(stderr, "before the crash: %s\n", w->failure);
    _exit(1);
}

/* ---- the parent ---- */

/* Until the child is dead, which it is after so many milliseconds from its first report; or from its start.
 */
static void collect(struct reports *reports, int fd, pid_t child, int kill_after, bool from_start) {
    bool counting = from_start;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, counting ? kill_after : -1) == 0 || (counting && kill_after == 0)) {
            kill(child, SIGKILL);
            counting = false;
            kill_after = -1;
            continue;
        }
        ssize_t n = read(fd, &reports->at[reports->count], sizeof *reports->at);
        if (n != sizeof *reports->at) return;
        reports->count++;
        if (kill_after > 0) {
            counting = true;
            kill_after--; /* reports come fast: near enough */
        }
    }
}

/* Gives the batch what the child said of it: which steps. */
static unsigned give_reports(struct world *w, struct batch *b, struct reports *reports) {
    unsigned said = 0;
    for (; reports->taken < reports->count; reports->taken++) {
        const struct report *r = &reports->at[reports->taken];
        if (r->batch != w->batches) break;
        struct store_op *op = &b->steps[r->index].op[REAL];
        op->err = (int)r->err;
        op->blob = r->blob;
        op->message_id = r->message_id;
        op->revision = r->revision;
        said |= 1u << r->index;
    }
    return said;
}

static bool repeat(struct world *w, struct reports *reports) {
    for (;;) {
        struct batch b;
        batch_generate(w, &b);
        unsigned said = give_reports(w, &b, reports), all = (1u << b.count) - 1;
        bool over = said != all;
        bool ok = over ? settle(w, &b, said) : world_replay(w, &b, all, all);
        batch_fini(&b);
        if (over || !ok) return ok;
    }
}

static bool die_elsewhere(struct world *w) {
    int fds[2];
    unsigned way = (unsigned)random_below(&w->random, 4);
    int kill_after = way == 0   ? (int)random_below(&w->random, 20)
                     : way == 1 ? (int)random_below(&w->random, 60)
                                : -1;
    w->dies_after = way >= 2 ? (unsigned)(1 + random_below(&w->random, way == 2 ? 20 : 150)) : 0;
    w->subject->close(w);
    if (pipe(fds) != 0) abort();
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        close(fds[0]);
        w->report_to = fds[1];
        run_child(w);
    }
    close(fds[1]);
    struct reports *reports = calloc(1, sizeof *reports);
    if (!reports) abort();
    collect(reports, fds[0], child, kill_after, way == 0);
    close(fds[0]);
    int status;
    while (waitpid(child, &status, 0) < 0) {
    }
    world_restart_model(w);
    bool ok = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    ok = ok ? repeat(w, reports) : world_fail(w, "the child ended with %x, see above", (unsigned)status);
    free(reports);
    return ok;
}

bool crash_round(struct world *w) {
    return w->subject->crash ? die_here(w) : die_elsewhere(w);
}
