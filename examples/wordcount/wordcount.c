/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wordcount: counts the words of a text over several workers. It has three services, for one process or many:
 *
 *   wordcount     cuts the text that was sent into parts, each of which becomes a job of count-words
 *   count-words   counts the words of its part
 *   sum-words     gets what the parts have answered, adds it up, and replies the most frequent words
 *
 * A POST is not run again when its worker is lost, unless the hub is told that this does no harm:
 *
 *   weir hub --service count-words.retry=always &
 *   wordcount wordcount sum-words &
 *   wordcount count-words & wordcount count-words &
 *   curl --data-binary @book.txt http://127.0.0.1:8080/wordcount
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { PART = 64 * 1024, TEXT_MOST = 48 << 20, SHOWN = 20 };

/* ---- words ---- */

struct word {
    const char *text; /* borrowed */
    size_t size;
    uint64_t count;
};

struct words {
    struct word *all;
    size_t n, room;
};

static int add(struct words *w, const char *text, size_t size, uint64_t count) {
    if (w->n == w->room) {
        size_t room = w->room ? w->room * 2 : 1024;
        struct word *all = reallocarray(w->all, room, sizeof(*all));
        if (!all) return WEIR_ENOMEM;
        w->all = all;
        w->room = room;
    }
    w->all[w->n++] = (struct word){text, size, count};
    return 0;
}

static int by_text(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static int by_count(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : by_text(a, b);
}

/* Makes one of all that are the same word; in the order of the alphabet. */
static void merge(struct words *w) {
    size_t n = 0;
    if (w->n > 0) qsort(w->all, w->n, sizeof(*w->all), by_text);
    for (size_t i = 0; i < w->n; i++) {
        if (n > 0 && by_text(&w->all[n - 1], &w->all[i]) == 0)
            w->all[n - 1].count += w->all[i].count;
        else
            w->all[n++] = w->all[i];
    }
    w->n = n;
}

/* Replies the first most of them, or all: lines of a word, a tab, and how often it was there. */
static int reply_words(weir_job *job, const struct words *w, size_t most) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return WEIR_ENOMEM;
    for (const struct word *x = w->all; x < w->all + (w->n < most ? w->n : most); x++)
        fprintf(out, "%.*s\t%" PRIu64 "\n", (int)x->size, x->text, x->count);
    int err = fclose(out) == 0 ? weir_reply(job, 200, "text/plain", text, size) : WEIR_ENOMEM;
    free(text);
    return err;
}

/* ---- wordcount ---- */

/* The end of the line that the PART-th byte is in. */
static size_t part_size(const char *text, size_t size) {
    const char *end = size > PART ? memchr(text + PART - 1, '\n', size - PART + 1) : NULL;
    return end ? (size_t)(end + 1 - text) : size;
}

static int wordcount(weir_job *job, void *arg) {
    (void)arg;
    const char *text;
    size_t size, count = 0;
    int err = weir_job_body(job, &text, &size);
    if (err == WEIR_ETOOBIG) return weir_reply_problem(job, 413, "at most %d bytes", TEXT_MOST);
    if (err != 0) return err;
    weir_part *parts = calloc(size / PART + 1, sizeof(*parts)); /* none but the last is smaller than PART */
    if (!parts) return WEIR_ENOMEM;
    for (size_t at = 0; at < size; at += parts[count++].size)
        parts[count] = (weir_part){
            .content_type = "text/plain", .body = text + at, .size = part_size(text + at, size - at)};
    err = weir_scatter(job, "count-words", "sum-words", parts, count);
    free(parts);
    return err;
}

/* ---- count-words ---- */

static int count_words(weir_job *job, void *arg) {
    (void)arg;
    struct words words = {0};
    const char *body;
    size_t size;
    int err = weir_job_body(job, &body, &size);
    if (err != 0) return err;
    char *text = malloc(size + 1);
    if (!text) return WEIR_ENOMEM;
    for (size_t i = 0; i < size; i++) text[i] = (char)tolower((unsigned char)body[i]);
    for (size_t at = 0, end; at < size && err == 0; at = end + 1) { /* a word is a run of ASCII letters */
        for (end = at; end < size && islower((unsigned char)text[end]);) end++;
        if (end > at) err = add(&words, text + at, end - at, 1);
    }
    merge(&words);
    if (err == 0) err = reply_words(job, &words, SIZE_MAX);
    free(words.all);
    free(text);
    return err;
}

/* ---- sum-words ---- */

/* What reply_words has made of a part. */
static int add_counts(struct words *w, const char *text, const char *end) {
    for (const char *line_end; text < end; text = line_end + 1) {
        line_end = memchr(text, '\n', (size_t)(end - text));
        const char *tab = line_end ? memchr(text, '\t', (size_t)(line_end - text)) : NULL;
        if (!tab) return WEIR_EMALFORMED;
        int err = add(w, text, (size_t)(tab - text), strtoull(tab + 1, NULL, 10));
        if (err != 0) return err;
    }
    return 0;
}

static int sum_words(weir_job *job, void *arg) {
    (void)arg;
    struct words words = {0};
    weir_part part = {.status = 200};
    int err;
    do {
        err = weir_job_next_part(job, &part);
        if (err == 0 && part.status == 200)
            err = add_counts(&words, part.body, (const char *)part.body + part.size);
    } while (err == 0 && part.status == 200);
    merge(&words);
    if (words.n > 0) qsort(words.all, words.n, sizeof(*words.all), by_count);
    if (err == WEIR_ENOTFOUND) /* that was the last part */
        err = reply_words(job, &words, SHOWN);
    else if (err == 0) /* no sum rather than one that lacks a part */
        err = weir_reply_problem(job, 502, "a part was answered with %u", part.status);
    free(words.all);
    return err;
}

int main(int argc, char **argv) {
    weir_worker_options options = {.hub = getenv("WEIR_HUB"), .max_body = TEXT_MOST};
    int first = argc > 2 && strcmp(argv[1], "--hub") == 0 ? 3 : 1;
    if (first == 3) options.hub = argv[2];
    weir_worker *worker = NULL;
    int err = first < argc ? weir_worker_open(&options, &worker) : WEIR_EINVAL;
    for (int i = first; i < argc && err == 0; i++) {
        weir_handler *handler = strcmp(argv[i], "wordcount") == 0     ? wordcount
                                : strcmp(argv[i], "count-words") == 0 ? count_words
                                : strcmp(argv[i], "sum-words") == 0   ? sum_words
                                                                      : NULL;
        err = handler ? weir_worker_offer(worker, argv[i], handler, NULL) : WEIR_EINVAL;
    }
    if (err == WEIR_EINVAL)
        fprintf(stderr, "usage: wordcount [--hub ADDR] wordcount|count-words|sum-words ...\n");
    if (err == 0) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    if (err != 0) fprintf(stderr, "wordcount: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
