/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wordcount: counts the words of a text over several workers. Three services, which one process may offer or many:
 *
 *   wordcount     cuts the text that was sent into parts, each of which becomes a job of count-words
 *   count-words   counts the words of its part
 *   sum-words     gets what the parts have answered, adds it up, and replies the most frequent words
 *
 * Counting changes nothing, so count-words may be run again when its worker is lost, though it is asked by POST:
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

/* Replies the first most of them, or all that there are, each in a line. */
static int reply_words(weir_job *job, const struct words *w, size_t most, const char *type, bool count_first) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return WEIR_ENOMEM;
    for (const struct word *x = w->all; x < w->all + (w->n < most ? w->n : most); x++) {
        if (count_first)
            fprintf(out, "%7" PRIu64 " %.*s\n", x->count, (int)x->size, x->text);
        else
            fprintf(out, "%.*s\t%" PRIu64 "\n", (int)x->size, x->text, x->count);
    }
    int err = fclose(out) == 0 ? weir_reply(job, 200, type, text, size) : WEIR_ENOMEM;
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
    for (size_t at = 0, end; at < size && err == 0; at = end + 1) { /* words: what consists of ASCII letters */
        for (end = at; end < size && islower((unsigned char)text[end]);) end++;
        if (end > at) err = add(&words, text + at, end - at, 1);
    }
    merge(&words);
    if (err == 0) err = reply_words(job, &words, SIZE_MAX, "text/tab-separated-values", false);
    free(words.all);
    free(text);
    return err;
}

/* ---- sum-words ---- */

/* A part's answer: lines of a word, a tab, and how often it was there. */
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
    while ((err = weir_job_next_part(job, &part)) == 0 && part.status == 200 && err == 0)
        err = add_counts(&words, part.body, (const char *)part.body + part.size);
    merge(&words);
    qsort(words.all, words.n, sizeof(*words.all), by_count);
    if (err == WEIR_ENOTFOUND) /* that was the last part */
        err = reply_words(job, &words, SHOWN, "text/plain", true);
    else if (err == 0) /* no sum rather than one that lacks a part */
        err = weir_reply_problem(job, 502, "a part was answered with %u", part.status);
    free(words.all);
    return err;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        weir_handler *handler;
    } services[] = {{"wordcount", wordcount}, {"count-words", count_words}, {"sum-words", sum_words}};
    weir_worker_options options = {.hub = getenv("WEIR_HUB"), .max_body = TEXT_MOST};
