/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the database with its prepared statements, and a thin layer over SQLite's calls: parameters
 * are bound and columns read in order; errors are those of store.h. One thread at a time.
 *
 *     struct query q;
 *     query_begin(&q, db, SQL_CONF_GET);
 *     query_text(&q, op->key);
 *     int r = query_row(&q);          1: a row; 0: no more; or an error. 0 and errors end it
 *     if (r == 1) revision = query_get_u64(&q);
 *     query_end(&q);
 */
#ifndef STORE_SQLITE_DB_H
#define STORE_SQLITE_DB_H

#include "store/sqlite_sql.h"
#include "store/store.h"
#include <sqlite3.h>

/* Pages of the log from which on it is to be begun anew; its file is laid out for some more. */
enum { DB_LOG_PAGES = 4096, DB_LOG_SPARE = 1024 };

struct db {
    sqlite3 *handle;
    sqlite3_stmt *statements[SQL_COUNT];
};

/* As store_sqlite_open. path: of the file; NULL: in memory. Makes the tables where there are none. */
int db_open(struct db *db, const char *path, char **ret_text);
/* Another connection to a file that db_open has made ready. */
int db_open_reader(struct db *db, const char *path);
/* Also of one that is all zero. */
void db_close(struct db *db);
/* WEIR_E* for what SQLite says of its last call. */
int db_error(const struct db *db);
/* A statement without parameters and rows. */
int db_run(struct db *db, enum sql sql);
/* One whose parameters are numbers, and that gives no rows: DB_RUN(db, SQL_JOB_DROP, seq). */
#define DB_RUN(db, sql, ...)                                                                                 \
    db_run_with(db, sql, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]){__VA_ARGS__})
int db_run_with(struct db *db, enum sql sql, size_t n, const uint64_t *numbers);
/* Pages of the database, and those of them that hold nothing. */
int db_pages(struct db *db, uint64_t *ret_pages, uint64_t *ret_free);
/* Ends a transaction in any state that an error has left it in. */
void db_rollback(struct db *db);

/* Copies what it can of the log into the file, without keeping anybody waiting. *pages: how much of it is
   there now; left as it is when that cannot be told. */
void db_copy_log(struct db *db, uint64_t *pages);
/* Copies all of it, so that the next transaction begins it anew: true. False: somebody reads it just now.
   What is in *pages: as above. */
bool db_restart_log(struct db *db, uint64_t *pages);

/* sqlite_schema.c */
extern const char *const db_migrations[]; /* ends with NULL */

/* Returns err, with a text for people. */
int db_refuse(char **ret_text, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

struct query {
    struct db *db;
    sqlite3_stmt *statement;
    int at; /* the next parameter, or column */
    char id[STORE_ID_TEXT];
};

void query_begin(struct query *q, struct db *db, enum sql sql);
/* What is bound is borrowed until the query has ended. */
void query_u64(struct query *q, uint64_t value);
/* A time or a limit: those beyond what an SQL integer holds are as good as never, or all. */
void query_time(struct query *q, uint64_t time);
void query_text(struct query *q, struct slice text);
void query_bytes(struct query *q, struct slice bytes);
void query_id(struct query *q, struct store_id id);
int query_row(struct query *q);
/* The statement is done with, and may be begun again. */
void query_end(struct query *q);
/* For what gives no rows. 0 or an error. */
int query_run(struct query *q);
/* For what gives one number: 0 and *ret (0 where there is none), or an error. */
int query_number(struct query *q, uint64_t *ret);
/* How many rows the last query_run has changed. */
int query_changes(const struct query *q);

uint64_t query_get_u64(struct query *q);
unsigned query_get_unsigned(struct query *q);
/* A copy. 0 or WEIR_ENOMEM. */
int query_get(struct query *q, struct arena *memory, struct slice *ret);
/* Borrowed until the next query_row. */
struct slice query_peek(struct query *q);
/* 0 or WEIR_ECORRUPT. */
int query_get_id(struct query *q, struct store_id *ret);

#endif
