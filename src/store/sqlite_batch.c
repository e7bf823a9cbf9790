/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: the operations of a batch are done in one transaction, and handed back together once it is
 * durable.
 *
 * What only reads, and reads nothing that an operation before it in the batch may write, is done first and
 * need not wait for the disk. Were there a reader on another thread, it might see what was submitted after
 * it.
 *
 * When something fails that is not the fault of one operation's parameters (the disk is full, say), the
 * transaction is rolled back, and each operation is tried again in one of its own: those that can be done
 * are.
 */
#include "base/hash.h"
#include "store/sqlite_store.h"

enum {
    BUCKETS = 1024,           /* of things that a batch has written */
    ROW = 512,                /* about what an operation adds beside its body */
    CHECKPOINT_PAGES = 1000,  /* of the log, from which on the reader copies them */
    RESTART_AGAIN_PAGES = 512 /* when somebody was reading it */
};

/* ---- what an operation does ---- */

static bool only_reads(const struct store_op *op) {
    switch (op->kind) {
    case STORE_JOB_GET:
    case STORE_JOB_LIST:
    case STORE_PART_LIST:
    case STORE_CALLBACK_DUE:
    case STORE_TOPIC_LOAD:
    case STORE_CONF_GET:
        return true;
    case STORE_TOPIC_READ:
        return !op->take;
    default:
        return false;
    }
}

static bool adds(const struct store_op *op) {
    switch (op->kind) {
    case STORE_JOB_PUT:
    case STORE_PART_PUT:
    case STORE_TOPIC_SUBSCRIBE:
    case STORE_TOPIC_APPEND:
    case STORE_CONF_SET:
        return true;
    default:
        return false;
    }
}

uint64_t batch_weight(const struct store_op *op) {
    return ROW + op->job.message.head.n + op->job.message.body.bytes.n + op->job.answer.head.n +
           op->job.answer.body.bytes.n + op->part.answer.head.n + op->part.answer.body.bytes.n +
           op->message.body.bytes.n + op->value.n;
}

/* What it is about: -1: many things. */
static int bucket_of(const struct store_op *op) {
    struct slice name;
    switch (op->kind) {
    case STORE_JOB_PUT:
    case STORE_JOB_STEP:
    case STORE_JOB_RELEASE:
    case STORE_JOB_FINISH:
    case STORE_JOB_REVIVE:
    case STORE_JOB_GET:
    case STORE_PART_PUT:
    case STORE_PART_LIST:
    case STORE_CALLBACK_SET:
        name = (struct slice){(const char *)&op->job.id, sizeof op->job.id};
        break;
    case STORE_TOPIC_SUBSCRIBE:
    case STORE_TOPIC_UNSUBSCRIBE:
    case STORE_TOPIC_APPEND:
    case STORE_TOPIC_READ:
    case STORE_TOPIC_ACK:
        name = op->topic;
        break;
    case STORE_CONF_GET:
    case STORE_CONF_SET:
        name = op->key;
        break;
    default:
        return -1;
    }
    return (int)(hash_bytes(name, 0) % BUCKETS);
}

/* ---- reading first ---- */

/* Takes out of ops what may be done before all others. */
static void split(struct list *ops, struct list *reads) {
    uint64_t written[BUCKETS / 64] = {0};
    bool any = false, all = false;
    LIST_FOR (node, ops) {
        const struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        int bucket = bucket_of(op);
        uint64_t bit = UINT64_C(1) << (bucket & 63), *word = &written[bucket < 0 ? 0 : bucket / 64];
        if (!only_reads(op)) {
            any = true;
            all |= bucket < 0;
            if (bucket >= 0) *word |= bit;
        } else if (!any || (!all && bucket >= 0 && !(*word & bit))) {
            list_del(node);
            list_push_back(reads, node);
        }
    }
}

static void run_reads(struct sqlite_store *s, struct list *reads) {
    struct db *db = &s->writer.db;
    if (list_empty(reads)) return;
    int err = db_run(db, SQL_BEGIN_READ);
    LIST_FOR (node, reads) {
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        op->err = err != 0 ? err : work_run(&s->writer, op);
    }
    if (err != 0 || db_run(db, SQL_COMMIT) != 0) db_rollback(db);
    sqlite_complete(s, reads);
}

/* ---- writing ---- */

static int run_all(struct sqlite_store *s, struct list *ops) {
    uint64_t more = 0;
    LIST_FOR (node, ops) {
        struct store_op *op = CONTAINER_OF(node, struct store_op, link);
        more += batch_weight(op);
        if (adds(op) && sqlite_is_full(s, more)) {
            op->err = WEIR_ENOSPACE;
            continue;
        }
        op->err = work_run(&s->writer, op);
        if (work_failed(op->err)) return op->err;
    }
    return 0;
}

static void settle(struct list *ops) {
    LIST_FOR (node, ops) work_settle(CONTAINER_OF(node, struct store_op, link));
}

static void forget(struct list *ops) {
    LIST_FOR (node, ops) work_forget(CONTAINER_OF(node, struct store_op, link));
}

/* After a commit. */
static void publish(struct sqlite_store *s, uint64_t bytes, uint64_t used) {
    bool reap = blobs_commit(s->blobs);
    const struct store_stats *counts = &s->writer.counts;
    pthread_mutex_lock(&s->lock);
    struct store_stats *stats = &s->stats;
    memcpy(stats->jobs, counts->jobs, sizeof stats->jobs);
    stats->topics = counts->topics;
    stats->subscriptions = counts->subscriptions;
    stats->messages = counts->messages;
    stats->message_bytes = counts->message_bytes;
    stats->commits++;
    stats->bytes = bytes;
    s->used = used;
    s->reap |= reap;
    if (reap) pthread_cond_signal(&s->lanes[LANE_BLOBS].wake);
    pthread_mutex_unlock(&s->lock);
}

/* All of them in one transaction. 0: it is durable, and each operation's err says how it went; otherwise
   nothing has been done. *ret_begun: it got so far as to try one. */
static int attempt(struct sqlite_store *s, struct list *ops, bool *ret_begun) {
    struct store_stats before = s->writer.counts;
    struct db *db = &s->writer.db;
    uint64_t bytes, used;
    int err = db_run(db, SQL_BEGIN);
    *ret_begun = err == 0;
    if (err == 0) err = run_all(s, ops);
    if (err == 0) err = sqlite_measure(s, &bytes, &used);
    if (err == 0 && s->config.unsafe_ack) {
        settle(ops);
        sqlite_complete(s, ops);
    }
    if (err == 0) err = db_run(db, SQL_COMMIT);
    if (err != 0) {
        db_rollback(db);
        blobs_rollback(s->blobs);
        s->writer.counts = before;
        forget(ops);
        return err;
    }
    publish(s, bytes, used);
    settle(ops);
    return 0;
}

static void fail_all(struct sqlite_store *s, struct list *ops, int err) {
    LIST_FOR (node, ops) CONTAINER_OF(node, struct store_op, link)->err = err;
    sqlite_complete(s, ops);
}

static void run_writes(struct sqlite_store *s, struct list *ops) {
    bool begun;
    if (list_empty(ops)) return;
    int err = attempt(s, ops, &begun);
    if (err == 0) {
        sqlite_complete(s, ops);
        return;
    }
    bool alone = ops->next->next == ops;
    if (alone || !begun) {
        fail_all(s, ops, err);
        return;
    }
    LIST_FOR (node, ops) {
        struct list one;
        list_init(&one);
        list_del(node);
        list_push_back(&one, node);
        run_writes(s, &one);
    }
}

/* ---- the log ---- */

/*
 * The reader copies the log's pages into the database, and the writer begins it anew when there is little
 * left to copy; or much, when it has grown all the same, so that whoever writes waits for the copying.
 *
 * Never do both look at the log at a time, and never is a log copied that has been copied whole: up to
 * version 3.51.2 SQLite may lose what is committed when a copy begins on such a log just while a commit
 * begins it anew (sqlite.org/wal.html, "The WAL-Reset Bug"). So copied must not be less than what is.
 */
static bool wants_restart(struct sqlite_store *s, uint64_t *ret_copied) {
    bool restart = false;
    pthread_mutex_lock(&s->lock);
    if (s->wal_pages < s->copied) s->copied = 0; /* a commit has begun it anew */
    uint64_t left = s->wal_pages - s->copied;
    if (s->wal_pages < DB_LOG_PAGES) s->restart_at = DB_LOG_PAGES;
    if (!s->checkpoint) {
        restart = s->wal_pages >= s->restart_at &&
                  (left < CHECKPOINT_PAGES || s->wal_pages >= DB_LOG_PAGES + DB_LOG_SPARE);
        s->checkpoint = !restart && left >= CHECKPOINT_PAGES;
        if (s->checkpoint) pthread_cond_signal(&s->lanes[LANE_READER].wake);
    }
    *ret_copied = s->copied;
    pthread_mutex_unlock(&s->lock);
    return restart;
}

static void tend_log(struct sqlite_store *s) {
    uint64_t copied;
    if (!wants_restart(s, &copied)) return;
    bool restarted = db_restart_log(&s->writer.db, &copied);
    s->restart_at = s->wal_pages + RESTART_AGAIN_PAGES;
    if (restarted) s->wal_pages = copied = 0;
    pthread_mutex_lock(&s->lock);
    s->copied = copied;
    pthread_mutex_unlock(&s->lock);
}

void batch_run(struct sqlite_store *s, struct list *ops) {
    struct list reads;
    list_init(&reads);
    split(ops, &reads);
    run_reads(s, &reads);
    run_writes(s, ops);
    if (s->path) tend_log(s);
}
