/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite of stores: random operations against a store and against the model, every result
 * compared, and from time to time all that can be read. One seed is one run; what fails prints what to call
 * to see it again:
 *
 *     conformance model|memory|sqlite [--crash] [--seed N] [--seeds N] [--steps N] [--verbose]
 *     conformance mutants
 *
 * Steps are batches of operations under way at once; with --crash, rounds of running, dying and starting
 * again.
 * --unsafe-ack lets the store acknowledge before it is durable; --caught turns the result round: that some
 * run must fail. mutants does so for each mutation of the model.
 */
#include "world.h"
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { COMPARE_EVERY = 25, REOPEN_EVERY = 40, CRASH_EVERY = 60, MUTANT_SEEDS = 60, MUTANT_STEPS = 1500 };

struct options {
    const struct subject *subject;
    uint64_t seed, seeds, steps;
    bool crash, unsafe_ack, verbose, caught;
    enum model_mutation mutation;
};

/* ---- a directory ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static char *directory_new(void) {
    const char *tmp = getenv("TMPDIR");
    char *dir;
    if (asprintf(&dir, "%s/weir-store-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0 || !mkdtemp(dir)) abort();
    return dir;
}

static void directory_free(char *dir) {
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

/* ---- a run ---- */

static bool step(struct world *w) {
    const struct subject *subject = w->subject;
    struct batch b;
    if (subject->crash && random_below(&w->random, CRASH_EVERY) == 0) return crash_round(w);
    bool reopens = subject->persists && random_below(&w->random, REOPEN_EVERY) == 0;
    batch_generate(w, &b);
    bool ok = reopens ? world_batch_close(w, &b) : world_batch(w, &b);
    batch_fini(&b);
    if (ok && random_below(&w->random, COMPARE_EVERY) == 0) ok = world_compare(w);
    return ok;
}

/* NULL, or what went wrong. */
static char *run(const struct options *o, uint64_t seed, uint64_t *operations) {
    struct world w;
    char *dir = directory_new();
    world_init(&w, o->subject, seed);
    w.dir = dir;
    w.unsafe_ack = o->unsafe_ack;
    w.verbose = o->verbose;
    w.crashing = o->crash;
    w.mutation = o->mutation;
    bool ok = world_open(&w);
    for (uint64_t i = 0; ok && i < o->steps; i++) ok = o->crash ? crash_round(&w) : step(&w);
    if (ok) world_compare_whole(&w);
    *operations += w.operations;
    char *failure = w.failure;
    w.failure = NULL;
    world_fini(&w);
    directory_free(dir);
    return failure;
}

static int run_all(const struct options *o) {
    uint64_t operations = 0, failed = 0;
    for (uint64_t seed = o->seed; seed < o->seed + o->seeds && !failed; seed++) {
        char *failure = run(o, seed, &operations);
        if (!failure) continue;
        failed = seed;
        fprintf(o->caught ? stdout : stderr,
                "%s\nagain: conformance %s%s%s --seed %" PRIu64 " --steps %" PRIu64 "\n", failure,
                o->subject->name, o->crash ? " --crash" : "", o->unsafe_ack ? " --unsafe-ack" : "", seed,
                o->steps);
        free(failure);
    }
    printf("%s: %" PRIu64 " operations, %s\n", o->subject->name, operations,
           failed ? "different" : "the same");
    return (failed != 0) != o->caught;
}

/* ---- mutants ---- */

static const char *const mutations[][2] = {{"", ""},
#define MUTATION_TEXT(name, text) {#name, text},
                                           MODEL_MUTATIONS(MUTATION_TEXT)
#undef MUTATION_TEXT
};

static int run_mutants(struct options o) {
    int missed = 0;
    o.subject = &subject_model;
    o.steps = MUTANT_STEPS;
    for (int i = 1; i < MODEL_MUTATION_COUNT; i++) {
        uint64_t operations = 0, seed = 0;
        char *failure = NULL;
        o.mutation = (enum model_mutation)i;
        while (!failure && seed < MUTANT_SEEDS) failure = run(&o, ++seed, &operations);
        printf("%s %s (%s): seed %" PRIu64 ", %" PRIu64 " operations\n", failure ? "found" : "MISSED",
               mutations[i][0], mutations[i][1], seed, operations);
        if (failure && o.verbose) printf("%s\n", failure);
        missed += !failure;
        free(failure);
    }
    return missed != 0;
}

/* ---- the command ---- */

static uint64_t number(const char *text) {
    uint64_t n;
    if (slice_u64(slice_of(text), &n)) return n;
    fprintf(stderr, "not a number: %s\n", text);
    exit(2);
}

static bool choose(struct options *o, const char *name) {
    static const struct subject *const subjects[] = {&subject_model, &subject_memory, &subject_sqlite};
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (strcmp(name, subjects[i]->name) == 0) o->subject = subjects[i];
    return o->subject != NULL;
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"seed", required_argument, NULL, 's'},  {"seeds", required_argument, NULL, 'n'},
        {"steps", required_argument, NULL, 'c'}, {"crash", no_argument, NULL, 'k'},
        {"caught", no_argument, NULL, 'x'},      {"unsafe-ack", no_argument, NULL, 'u'},
        {"verbose", no_argument, NULL, 'v'},     {NULL, 0, NULL, 0}};
    struct options o = {.seed = 1, .seeds = 1, .steps = 1000};
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == '?') return 2;
        if (c == 's') o.seed = number(optarg);
        if (c == 'n') o.seeds = number(optarg);
        if (c == 'c') o.steps = number(optarg);
        o.crash = o.crash || c == 'k';
        o.caught = o.caught || c == 'x';
        o.unsafe_ack = o.unsafe_ack || c == 'u';
        o.verbose = o.verbose || c == 'v';
    }
    const char *what = optind < argc ? argv[optind] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "mutants") == 0) return run_mutants(o);
    if (!choose(&o, what)) {
        fprintf(stderr, "usage: conformance model|memory|sqlite|mutants [options]\n");
        return 2;
    }
    return run_all(&o);
}
