/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_db.h"
#include "base/assert.h"
#include "weir/weir.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x77656972, /* "weir" */
    BUSY_MS = 5000,              /* how long somebody else may write (the sqlite3 tool, say) */
    /* What a full check at start may read: after a clean end, and after another one. About 100 MiB/s. */
    CHECK_CLEAN = 16 << 20,
    CHECK_UNCLEAN = 128 << 20,
    /* The log's file, in SQLite's format (sqlite.org/fileformat2.html, "WAL File Format"). */
    LOG_HEAD = 32,
    LOG_FRAME = 24 + 4096,
    LOG_BYTES = LOG_HEAD + (DB_LOG_PAGES + DB_LOG_SPARE) * LOG_FRAME,
    LOG_SHARE = 16 /* of the room on the disk that it may take: 1 / LOG_SHARE */
};

static const char *const texts[SQL_COUNT] = {
#define SQL_TEXT(name, text) [SQL_##name] = text,
    SQL_STATEMENTS(SQL_TEXT)
#undef SQL_TEXT
};

/* ---- errors ---- */

int db_error(const struct db *db) {
    int code = db->handle ? sqlite3_extended_errcode(db->handle) : SQLITE_NOMEM;
    if (code == SQLITE_IOERR_NOMEM) return WEIR_ENOMEM;
    if (code == SQLITE_IOERR_CORRUPTFS) return WEIR_ECORRUPT;
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return WEIR_ENOMEM;
    case SQLITE_FULL:
        return WEIR_ENOSPACE;
    case SQLITE_IOERR: /* quota: SQLite knows ENOSPC alone */
        return sqlite3_system_errno(db->handle) == EDQUOT ? WEIR_ENOSPACE : WEIR_EUNAVAILABLE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return WEIR_ECORRUPT;
    default:
        return WEIR_EUNAVAILABLE;
    }
}

/* ---- queries ---- */

void query_begin(struct query *q, struct db *db, enum sql sql) {
    q->db = db;
    q->statement = db->statements[sql];
    q->at = 1;
}

void query_u64(struct query *q, uint64_t value) {
    sqlite3_bind_int64(q->statement, q->at++, (sqlite3_int64)value);
}

void query_time(struct query *q, uint64_t time) {
    query_u64(q, time < INT64_MAX ? time : INT64_MAX);
}

/* Binding borrowed memory needs none, and what is too long for SQLite (1 GB) is far beyond STORE_INLINE. */
void query_text(struct query *q, struct slice text) {
    sqlite3_bind_text64(q->statement, q->at++, text.n ? text.p : "", text.n, SQLITE_STATIC, SQLITE_UTF8);
}

void query_bytes(struct query *q, struct slice bytes) {
    sqlite3_bind_blob64(q->statement, q->at++, bytes.n ? bytes.p : "", bytes.n, SQLITE_STATIC);
}

void query_id(struct query *q, struct store_id id) {
    query_text(q, store_id_text(id, q->id));
}

int query_row(struct query *q) {
    int r = sqlite3_step(q->statement);
    q->at = 0;
    if (r == SQLITE_ROW) return 1;
    int err = r == SQLITE_DONE ? 0 : db_error(q->db);
    query_end(q);
    return err;
}

void query_end(struct query *q) {
    sqlite3_reset(q->statement);
}

int query_run(struct query *q) {
    int r = query_row(q);
    if (r == 1) query_end(q);
    return r < 0 ? r : 0;
}

int query_number(struct query *q, uint64_t *ret) {
    int r = query_row(q);
    if (r < 0) return r;
    *ret = r == 1 ? query_get_u64(q) : 0;
    query_end(q);
    return 0;
}

int query_changes(const struct query *q) {
    return sqlite3_changes(q->db->handle);
}

uint64_t query_get_u64(struct query *q) {
    return (uint64_t)sqlite3_column_int64(q->statement, q->at++);
}

unsigned query_get_unsigned(struct query *q) {
    return (unsigned)query_get_u64(q);
}

struct slice query_peek(struct query *q) {
    const char *p = sqlite3_column_blob(q->statement, q->at);
    size_t n = (size_t)sqlite3_column_bytes(q->statement, q->at++);
    return p ? (struct slice){p, n} : (struct slice){"", 0};
}

int query_get(struct query *q, struct arena *memory, struct slice *ret) {
    struct slice s = query_peek(q);
    if (s.n) s = arena_copy(memory, s);
    if (!s.p) return WEIR_ENOMEM;
    *ret = s;
    return 0;
}

int query_get_id(struct query *q, struct store_id *ret) {
    return store_id_parse(query_peek(q), ret) ? 0 : WEIR_ECORRUPT;
}

int db_run(struct db *db, enum sql sql) {
    struct query q;
    query_begin(&q, db, sql);
    return query_run(&q);
}

int db_run_with(struct db *db, enum sql sql, size_t n, const uint64_t *numbers) {
    struct query q;
    query_begin(&q, db, sql);
    for (size_t i = 0; i < n; i++) query_u64(&q, numbers[i]);
    return query_run(&q);
}

int db_pages(struct db *db, uint64_t *ret_pages, uint64_t *ret_free) {
    struct query q;
    query_begin(&q, db, SQL_PAGES);
    int err = query_number(&q, ret_pages);
    if (err != 0) return err;
    query_begin(&q, db, SQL_FREE_PAGES);
    return query_number(&q, ret_free);
}

void db_rollback(struct db *db) {
    if (!sqlite3_get_autocommit(db->handle)) db_run(db, SQL_ROLLBACK);
}

/* ---- the log ---- */

/* An error is no harm: the log is as good as the file, and the next one tries again. */
static int checkpoint(struct db *db, int mode, uint64_t *pages) {
    int copied = -1;
    int r = sqlite3_wal_checkpoint_v2(db->handle, NULL, mode, NULL, &copied);
    if (copied >= 0) *pages = (uint64_t)copied;
    return r;
}

void db_copy_log(struct db *db, uint64_t *pages) {
    checkpoint(db, SQLITE_CHECKPOINT_PASSIVE, pages);
}

bool db_restart_log(struct db *db, uint64_t *pages) {
    sqlite3_busy_timeout(db->handle, 0);
    int r = checkpoint(db, SQLITE_CHECKPOINT_RESTART, pages);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    return r == SQLITE_OK;
}

/* ---- opening ---- */

static int execute(struct db *db, const char *sql) {
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(db);
}

/* The number that a pragma gives. */
static int pragma(struct db *db, const char *sql, uint64_t *ret) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) != SQLITE_OK) return db_error(db);
    int r = sqlite3_step(statement), err = r == SQLITE_ROW ? 0 : db_error(db);
    if (r == SQLITE_ROW) *ret = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return err;
}

static int prepare_all(struct db *db) {
    for (int i = 0; i < SQL_COUNT; i++)
        if (sqlite3_prepare_v3(db->handle, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[i],
                               NULL) != SQLITE_OK)
            return sqlite3_errcode(db->handle) == SQLITE_ERROR ? WEIR_ECORRUPT
                                                               : db_error(db); /* no such table */
    return 0;
}

static int connect_to(struct db *db, const char *path, int flags) {
    *db = (struct db){0};
    if (sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return db_error(db);
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    return 0;
}

int db_open_reader(struct db *db, const char *path) {
    int err = connect_to(db, path, SQLITE_OPEN_READWRITE);
    if (err == 0)
        err = execute(db, "PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL;"
                          "PRAGMA wal_autocheckpoint = 0");
    if (err == 0) err = prepare_all(db);
    if (err != 0) db_close(db);
    return err;
}

void db_close(struct db *db) {
    for (int i = 0; i < SQL_COUNT; i++) sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    *db = (struct db){0};
}

/* ---- what is there, and may it be used? ---- */

int db_refuse(char **ret_text, int err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (vasprintf(ret_text, format, args) < 0) *ret_text = NULL;
    va_end(args);
    return err;
}

static uint64_t size_of(const char *path, const char *suffix) {
    struct stat st;
    char *name;
    if (asprintf(&name, "%s%s", path, suffix) < 0) return 0;
    uint64_t size = stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
    free(name);
    return size;
}

/* A check of every page, where it takes about a second at most: damage elsewhere is found when it is read. */
static int check_pages(struct db *db, const char *path, bool clean, char **ret_text) {
    if (size_of(path, "") > (clean ? CHECK_CLEAN : CHECK_UNCLEAN)) return 0;
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &statement, NULL) != SQLITE_OK)
        return db_error(db);
    int r = sqlite3_step(statement), err = r == SQLITE_ROW ? 0 : db_error(db);
    const char *said = r == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (err == 0 && (!said || strcmp(said, "ok") != 0))
        err = db_refuse(
            ret_text, WEIR_ECORRUPT,
            "%s is damaged (%s). It has been left as it is: move the directory away and start with a "
            "new one, or try \"sqlite3 %s .recover\"",
            path, said ? said : "out of memory", path);
    sqlite3_finalize(statement);
    return err;
}

/* From version to the newest one, step by step. */
static int migrate(struct db *db, uint64_t version) {
    for (; db_migrations[version]; version++) {
        char end[128];
        snprintf(end, sizeof end, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                 (int)APPLICATION_ID, (int)version + 1);
        int err = execute(db, "BEGIN IMMEDIATE");
        if (err == 0) err = execute(db, db_migrations[version]);
        if (err == 0) err = execute(db, end);
        if (err != 0) {
            execute(db, "ROLLBACK");
            return err;
        }
    }
    return 0;
}

/* Whose it is, and of which version. */
static int check_version(struct db *db, const char *path, uint64_t *ret_version, char **ret_text) {
    uint64_t application = 0, version = 0, tables = 0, known = 0;
    int err = pragma(db, "PRAGMA application_id", &application);
    if (err == 0) err = pragma(db, "PRAGMA user_version", &version);
    if (err == 0) err = pragma(db, "SELECT count(*) FROM sqlite_master", &tables);
    if (err != 0) return err;
    while (db_migrations[known]) known++;
    if (application != APPLICATION_ID && (application || version || tables))
        return db_refuse(ret_text, WEIR_ECORRUPT,
                         "%s is an SQLite database, but not a weir store: name another directory", path);
    if (version > known)
        return db_refuse(
            ret_text, WEIR_ESTATE,
            "%s has schema version %llu, and this weir knows versions up to %llu: start a newer weir", path,
            (unsigned long long)version, (unsigned long long)known);
    *ret_version = version;
    return 0;
}

static bool has_room(int fd, uint64_t bytes) {
    struct statvfs fs;
    return fstatvfs(fd, &fs) == 0 && fs.f_frsize * (uint64_t)fs.f_bavail / LOG_SHARE >= bytes;
}

static int write_zeros(int fd, off_t from, off_t to) {
    static char zeros[1 << 20];
    while (from < to) {
        size_t left = (size_t)(to - from);
        ssize_t n = pwrite(fd, zeros, left < sizeof zeros ? left : sizeof zeros, from);
        if (n <= 0) return -1;
        from += n;
    }
    return fdatasync(fd);
}

/* Writes zeros behind what the log holds, so that commits overwrite its file instead of making it longer:
   then their syncs need not wait for the file system's own log, which takes a third of their time. SQLite
   takes what is behind the last frame for none, as it does with what is left of a longer log. An error is no
   harm. */
static void lay_out_log(struct db *db, const char *path) {
    char *name;
    if (asprintf(&name, "%s-wal", path) < 0) return;
    int fd = open(name, O_RDWR | O_CLOEXEC);
    free(name);
    if (fd < 0) return;
    if (execute(db, "BEGIN IMMEDIATE") != 0) { /* nobody else may write to it meanwhile */
        close(fd);
        return;
    }
    off_t was = lseek(fd, 0, SEEK_END);
    if (was >= 0 && was < LOG_BYTES && has_room(fd, LOG_BYTES) && write_zeros(fd, was, LOG_BYTES) != 0)
        (void)!ftruncate(fd, was);
    execute(db, "ROLLBACK");
    close(fd);
}

static int make_ready(struct db *db, const char *path, char **ret_text) {
    uint64_t version = 0;
    bool clean = size_of(path, "-wal") == 0;
    int err = check_version(db, path, &version, ret_text);
    if (err == 0) err = check_pages(db, path, clean, ret_text);
    if (err == 0)
        err = execute(db, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
                          "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                          "PRAGMA journal_size_limit = 67108864; PRAGMA secure_delete = OFF;"
                          "PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY");
    if (err == 0) err = migrate(db, version);
    return err == 0 ? prepare_all(db) : err;
}

static const char *advice(int err) {
    switch (err) {
    case WEIR_ECORRUPT:
        return "It has been left as it is: move the directory away and start with a new one, or try "
               "\"sqlite3 FILE .recover\"";
    case WEIR_ENOSPACE:
        return "Make room on the disk";
    default:
        return "Check that the directory and its files can be written, and that the disk is well";
    }
}

int db_open(struct db *db, const char *path, char **ret_text) {
    *ret_text = NULL;
    const char *name = path ? path : ":memory:";
    int err = connect_to(db, name, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (err == 0) err = make_ready(db, name, ret_text);
    if (err == 0 && path) lay_out_log(db, path);
    if (err != 0 && !*ret_text)
        db_refuse(ret_text, err, "%s cannot be opened: %s. %s", name,
                  db->handle ? sqlite3_errmsg(db->handle) : "out of memory", advice(err));
    if (err != 0) db_close(db);
    return err == WEIR_EUNAVAILABLE ? WEIR_EIO : err;
}
