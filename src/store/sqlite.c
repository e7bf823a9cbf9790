/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite.h"
#include "base/assert.h"
#include "store/sqlite_store.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_MOST = 1000, BATCH_BYTES = 8 << 20, LAZY_NS = 2000000 };

/* ---- handing back ---- */

/* The store's own fault, not the caller's. */
static uint64_t count(const struct list *ops, uint64_t *ret_errors) {
    uint64_t n = 0;
    LIST_FOR (node, ops) {
        n++;
        *ret_errors += work_failed(CONTAINER_OF(node, struct store_op, link)->err);
    }
    return n;
}

void sqlite_complete(struct sqlite_store *s, struct list *ops) {
    uint64_t errors = 0, n = count(ops, &errors);
    if (n == 0) return;
    pthread_mutex_lock(&s->lock);
    bool first = list_empty(&s->done);
    list_splice_back(&s->done, ops);
    s->stats.operations += n;
    s->stats.errors += errors;
    pthread_mutex_unlock(&s->lock);
    if (first && s->config.wake) s->config.wake(s->config.ctx);
}

bool sqlite_is_full(struct sqlite_store *s, uint64_t more) {
    uint64_t blobs, bytes;
    if (!s->config.max_bytes) return false;
    blobs_stats(s->blobs, &blobs, &bytes);
    pthread_mutex_lock(&s->lock);
    bool full = s->used + bytes + more > s->config.max_bytes;
    pthread_mutex_unlock(&s->lock);
    return full;
}

int sqlite_measure(struct sqlite_store *s, uint64_t *ret_bytes, uint64_t *ret_used) {
    uint64_t pages, free_pages;
    int err = db_pages(&s->writer.db, &pages, &free_pages);
    if (err != 0) return err;
    *ret_bytes = pages * s->page_size;
    *ret_used = (pages - free_pages) * s->page_size;
    return 0;
}

/* ---- the writer ---- */

/* The next ones, not too many. Their number. */
static uint64_t take_batch(struct lane *lane, struct list *batch) {
    uint64_t n = 0, bytes = 0;
    list_init(batch);
    while (!list_empty(&lane->ops) && n < BATCH_MOST && bytes < BATCH_BYTES) {
        struct list *node = list_pop_front(&lane->ops);
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        bytes += batch_weight(op);
        lane->urgent -= !op->lazy;
        list_push_back(batch, node);
        n++;
    }
    return n;
}

/* Lazy operations wait for company, but not for long. With lock. */
static void wait_for_company(struct sqlite_store *s, struct lane *lane) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LAZY_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int r = 0;
    while (lane->urgent == 0 && !s->stopping && r == 0)
        r = pthread_cond_timedwait(&lane->wake, &s->lock, &until);
}

static void *write_all(void *arg) {
    struct sqlite_store *s = arg;
    struct lane *lane = &s->lanes[LANE_WRITER];
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (list_empty(&lane->ops) && !s->stopping) pthread_cond_wait(&lane->wake, &s->lock);
        if (list_empty(&lane->ops)) break;
        wait_for_company(s, lane);
        struct list batch;
        uint64_t n = take_batch(lane, &batch);
        pthread_mutex_unlock(&s->lock);
        batch_run(s, &batch);
        pthread_mutex_lock(&s->lock);
        s->written += n;
        if (!list_empty(&s->lanes[LANE_READER].ops)) pthread_cond_signal(&s->lanes[LANE_READER].wake);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the reader ---- */

static struct store_op *first_of(struct lane *lane) {
    return list_empty(&lane->ops) ? NULL : CONTAINER_OF(lane->ops.next, struct store_op, link);
}

/* With lock; without it while it works. */
static void copy_log(struct sqlite_store *s) {
    uint64_t copied = s->copied;
    pthread_mutex_unlock(&s->lock);
    db_copy_log(&s->reader.db, &copied);
    pthread_mutex_lock(&s->lock);
    s->copied = copied;
    s->checkpoint = false; /* of what was wanted meanwhile, most is done */
}

/* The same. However long a list takes, the log does not wait for its end. */
static void list_jobs(struct sqlite_store *s, struct store_op *op) {
    struct work_job_list_at at = {.after = op->job.id};
    struct list one;
    list_init(&one);
    list_del(&op->link);
    list_push_back(&one, &op->link);
    op->next = 0;
    do {
        if (s->checkpoint) copy_log(s);
        pthread_mutex_unlock(&s->lock);
        op->err = work_job_list_slice(&s->reader, op, &at);
        pthread_mutex_lock(&s->lock);
    } while (at.more);
    pthread_mutex_unlock(&s->lock);
    if (op->err != 0) work_forget(op);
    sqlite_complete(s, &one);
    pthread_mutex_lock(&s->lock);
}

/* Lists see all that was submitted before: op->next is what must have been written by then. */
static void *read_all(void *arg) {
    struct sqlite_store *s = arg;
    struct lane *lane = &s->lanes[LANE_READER];
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct store_op *op = first_of(lane);
        if (s->stopping && !op) break;
        if (s->checkpoint)
            copy_log(s);
        else if (op && s->written >= op->next)
            list_jobs(s, op);
        else
            pthread_cond_wait(&lane->wake, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the blobs' ---- */

static int run_blob(struct sqlite_store *s, struct store_op *op) {
    switch (op->kind) {
    case STORE_BLOB_NEW:
        return sqlite_is_full(s, 0) ? WEIR_ENOSPACE : blobs_new(s->blobs, &op->blob);
    case STORE_BLOB_WRITE:
        return sqlite_is_full(s, op->bytes.n) ? WEIR_ENOSPACE : blobs_write(s->blobs, op->blob, op->bytes);
    case STORE_BLOB_CLOSE:
        return blobs_close(s->blobs, op->blob);
    case STORE_BLOB_READ:
        return blobs_read(s->blobs, op->blob, op->after, op->limit, &op->memory, &op->ret_bytes);
    default:
        return blobs_drop(s->blobs, op->blob);
    }
}

static void *keep_blobs(void *arg) {
    struct sqlite_store *s = arg;
    struct lane *lane = &s->lanes[LANE_BLOBS];
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (list_empty(&lane->ops) && !s->reap && !s->stopping) pthread_cond_wait(&lane->wake, &s->lock);
        struct store_op *op = first_of(lane);
        bool reap = s->reap;
        if (!op && !reap) break;
        struct list one;
        list_init(&one);
        if (op) list_del(&op->link);
        if (op) list_push_back(&one, &op->link);
        s->reap = false;
        pthread_mutex_unlock(&s->lock);
        if (op) op->err = run_blob(s, op);
        sqlite_complete(s, &one);
        if (reap) blobs_reap(s->blobs);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the owner's thread ---- */

static enum lane_name lane_of(const struct sqlite_store *s, enum store_kind kind) {
    switch (kind) {
    case STORE_BLOB_NEW:
    case STORE_BLOB_WRITE:
    case STORE_BLOB_CLOSE:
    case STORE_BLOB_READ:
    case STORE_BLOB_DROP:
        return LANE_BLOBS;
    case STORE_JOB_LIST: /* may have to look at all jobs */
        return s->path ? LANE_READER : LANE_WRITER;
    default:
        return LANE_WRITER;
    }
}

static void submit(struct store *base, struct store_op *op) {
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    enum lane_name name = lane_of(s, op->kind);
    struct lane *lane = &s->lanes[name];
    pthread_mutex_lock(&s->lock);
    bool wakes = false; /* the others of those that have come together need not */
    if (s->stopping) {
        op->err = WEIR_EUNAVAILABLE;
        list_push_back(&s->done, &op->link);
    } else {
        if (name == LANE_WRITER) s->submitted++;
        if (name == LANE_READER) op->next = s->submitted;
        wakes = list_empty(&lane->ops) || (lane->urgent == 0 && !op->lazy);
        list_push_back(&lane->ops, &op->link);
        lane->urgent += !op->lazy;
    }
    pthread_mutex_unlock(&s->lock);
    if (wakes) pthread_cond_signal(&lane->wake);
}

static void turn(struct store *base) {
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&s->lock);
    list_splice_back(&done, &s->done);
    pthread_mutex_unlock(&s->lock);
    for (struct list *node; (node = list_pop_front(&done));) {
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        op->done(op);
    }
}

static void stats(struct store *base, struct store_stats *ret) {
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    pthread_mutex_lock(&s->lock);
    *ret = s->stats;
    pthread_mutex_unlock(&s->lock);
    blobs_stats(s->blobs, &ret->blobs, &ret->blob_bytes);
}

/* ---- closing ---- */

static void stop(struct sqlite_store *s) {
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    for (int i = 0; i < LANES; i++) pthread_cond_broadcast(&s->lanes[i].wake);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < LANES; i++)
        if (s->lanes[i].runs) pthread_join(s->lanes[i].thread, NULL);
}

static void release(struct sqlite_store *s) {
    db_close(&s->reader.db);
    db_close(&s->writer.db); /* the last connection empties and removes the log */
    blobs_free(s->blobs);
    if (s->lock_fd >= 0) close(s->lock_fd);
    for (int i = 0; i < LANES; i++) pthread_cond_destroy(&s->lanes[i].wake);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}

static void close_store(struct store *base) {
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    stop(s);
    while (!list_empty(&s->done)) turn(base); /* done may submit more, which comes back at once */
    release(s);
}

static const struct store_ops ops = {submit, turn, stats, close_store};

/* ---- opening ---- */

static int refuse_file(char **ret_text, const char *what, const char *dir) {
    int number = errno;
    return db_refuse(ret_text, number == ENOSPC || number == EDQUOT ? WEIR_ENOSPACE : WEIR_EIO,
                     "%s %s: %s. Name a directory that this user may write in", what, dir, strerror(number));
}

static int refuse_locked(char **ret_text, int fd, const char *dir) {
    char text[32] = {0};
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    struct slice pid =
        slice_trim((struct slice){text, n > 4 && memcmp(text, "pid ", 4) == 0 ? (size_t)n : 0});
    while (pid.n && pid.p[pid.n - 1] == '\n') pid.n--;
    return db_refuse(ret_text, WEIR_ESTATE,
                     "%s is in use by the hub with %.*s: stop it, or name another directory", dir,
                     SLICE_ARG(pid.n ? pid : SLICE("an unknown pid")));
}

static int write_pid(int fd) {
    char text[32];
    int n = snprintf(text, sizeof text, "pid %ld\n", (long)getpid());
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n ? 0 : -1;
}

/* A new directory is there for good once the one above knows it. */
static int make_dir(const char *dir) {
    char *path;
    if (mkdir(dir, 0700) != 0) return errno == EEXIST ? 0 : -1;
    if (asprintf(&path, "%s/..", dir) < 0) return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(path);
    if (fd < 0) return errno == EACCES ? 0 : -1; /* not readable for us: nothing more can be done */
    int r = fsync(fd);
    close(fd);
    return r;
}

/* Makes the directory and takes its lock. */
static int lock_dir(struct sqlite_store *s, char **ret_text) {
    const char *dir = s->config.dir;
    char *path;
    if (make_dir(dir) != 0) return refuse_file(ret_text, "cannot make", dir);
    if (asprintf(&path, "%s/lock", dir) < 0) return WEIR_ENOMEM;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    if (s->lock_fd < 0) return refuse_file(ret_text, "cannot write in", dir);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? refuse_locked(ret_text, s->lock_fd, dir)
                                    : refuse_file(ret_text, "cannot lock", dir);
    if (write_pid(s->lock_fd) != 0) return refuse_file(ret_text, "cannot write in", dir);
    return 0;
}

static int is_wanted(void *ctx, uint64_t id) {
    struct sqlite_store *s = ctx;
    struct query q;
    query_begin(&q, &s->writer.db, SQL_BLOB_FIND);
    query_u64(&q, id);
    int r = query_row(&q);
    if (r == 1) query_end(&q);
    return r;
}

static int number(struct sqlite_store *s, enum sql sql, uint64_t *ret) {
    struct query q;
    query_begin(&q, &s->writer.db, sql);
    return query_number(&q, ret);
}

static int open_blobs(struct sqlite_store *s) {
    const struct store_stats *counts = &s->writer.counts;
    uint64_t last;
    int err = number(s, SQL_BLOB_LAST, &last);
    if (err == 0) err = blobs_open(s->config.dir, last, counts->blobs, counts->blob_bytes, &s->blobs);
    if (err != 0) return err;
    s->writer.blobs = s->blobs;
    return blobs_clean(s->blobs, is_wanted, s);
}

static int count_all(struct sqlite_store *s) {
    int err = work_count(&s->writer);
    s->stats = s->writer.counts;
    if (err == 0) err = number(s, SQL_PAGE_SIZE, &s->page_size);
    return err == 0 ? sqlite_measure(s, &s->stats.bytes, &s->used) : err;
}

static int log_grows(void *ctx, sqlite3 *handle, const char *name, int pages) {
    struct sqlite_store *s = ctx;
    (void)handle, (void)name;
    s->wal_pages = (uint64_t)pages;
    return SQLITE_OK;
}

/* All that needs no threads. */
static int open_all(struct sqlite_store *s, char **ret_text) {
    const char *dir = s->config.dir;
    int err = dir ? lock_dir(s, ret_text) : 0;
    if (err != 0) return err;
    if (dir && asprintf(&s->path, "%s/weir.db", dir) < 0) {
        s->path = NULL;
        return WEIR_ENOMEM;
    }
    err = db_open(&s->writer.db, s->path, ret_text);
    if (err != 0) return err;
    err = count_all(s);
    if (err == 0) err = open_blobs(s);
    if (err == 0 && s->path) {
        sqlite3_wal_hook(s->writer.db.handle, log_grows, s);
        err = db_open_reader(&s->reader.db, s->path);
    }
    if (err != 0)
        db_refuse(ret_text, err, "%s cannot be read: %s. Check its files, the disk and its room",
                  dir ? dir : "the store in memory", weir_strerror(err));
    return err == WEIR_EUNAVAILABLE || err == WEIR_ENOTFOUND ? WEIR_EIO : err;
}

static int start(struct sqlite_store *s) {
    static void *(*const mains[LANES])(void *arg) = {write_all, read_all, keep_blobs};
    for (int i = 0; i < LANES; i++) {
        if (pthread_create(&s->lanes[i].thread, NULL, mains[i], s) != 0) return WEIR_ENOMEM;
        s->lanes[i].runs = true;
    }
    return 0;
}

int store_sqlite_open(const struct store_sqlite_config *config, struct store **ret, char **ret_text) {
    *ret_text = NULL;
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (!s) return WEIR_ENOMEM;
    s->base.ops = &ops;
    s->config = *config;
    s->lock_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->done);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    for (int i = 0; i < LANES; i++) {
        list_init(&s->lanes[i].ops);
        pthread_cond_init(&s->lanes[i].wake, &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
    int err = open_all(s, ret_text);
    if (err == 0) err = start(s);
    if (err != 0) {
        stop(s);
        release(s);
        return err;
    }
    s->config.dir = NULL; /* the caller's */
    *ret = &s->base;
    return 0;
}
