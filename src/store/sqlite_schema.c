/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables. migrations[n] leads from schema version n to n + 1 (user_version; 0: nothing is there yet);
 * what has once been released is never changed, but followed by another one.
 *
 * The job table is narrow, messages and answers are apart, so that a change of state does not rewrite bodies;
 * its indexes hold only what is asked for: a job that is leased at once and ends touches job_id, job_state
 * and job_ended alone, and of these only the last page, or a small one. What a topic's subscriptions have yet
 * to read is found by indexes as well: nothing is kept in memory that a transaction rolled back could leave
 * wrong.
 */
#include "store/sqlite_db.h"

static const char version_1[] =
    "CREATE TABLE job ("
    "  seq INTEGER PRIMARY KEY,"
    "  id TEXT NOT NULL,"
    "  state INTEGER NOT NULL," /* 0 queued, 1 leased, 2 done, 3 failed, 4 cancelled, 5 dead */
    "  kind INTEGER NOT NULL,"  /* 0 plain, 1 scatter */
    "  service TEXT NOT NULL, tenant TEXT NOT NULL, gather TEXT NOT NULL,"
    "  priority INTEGER NOT NULL, hop INTEGER NOT NULL, attempt INTEGER NOT NULL, cost INTEGER NOT NULL,"
    "  fence INTEGER NOT NULL,"
    "  created INTEGER NOT NULL, run_at INTEGER NOT NULL, deadline INTEGER NOT NULL,"
    "  ended INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL DEFAULT 0,"
    "  callback TEXT NOT NULL, callback_at INTEGER NOT NULL, callback_attempt INTEGER NOT NULL,"
    "  reason TEXT NOT NULL, status INTEGER NOT NULL DEFAULT 0,"
    "  message_blob INTEGER NOT NULL, message_size INTEGER NOT NULL,"
    "  answer_blob INTEGER NOT NULL DEFAULT 0, answer_size INTEGER NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX job_id ON job (id);"
    "CREATE INDEX job_line ON job (service, tenant, priority) WHERE state = 0 AND run_at = 0;"
    "CREATE INDEX job_run_at ON job (run_at) WHERE state = 0 AND run_at > 0;"
    "CREATE INDEX job_state ON job (state, id) WHERE state IN (1, 3, 5);"
    "CREATE INDEX job_ended ON job (expires, state) WHERE state >= 2;"
    "CREATE INDEX job_callback ON job (callback_at) WHERE callback_at > 0 AND state >= 2;"
    "CREATE TABLE job_message (job INTEGER PRIMARY KEY, head TEXT NOT NULL, body BLOB NOT NULL);"
    "CREATE TABLE job_answer (job INTEGER PRIMARY KEY, head TEXT NOT NULL, body BLOB NOT NULL);"
    "CREATE TABLE job_part ("
    "  job INTEGER NOT NULL, part INTEGER NOT NULL, status INTEGER NOT NULL,"
    "  blob INTEGER NOT NULL, size INTEGER NOT NULL, head TEXT NOT NULL, body BLOB NOT NULL,"
    "  UNIQUE (job, part));"
    "CREATE TABLE job_key ("
    "  service TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,"
    "  hash BLOB NOT NULL, job TEXT NOT NULL, expires INTEGER NOT NULL,"
    "  PRIMARY KEY (service, tenant, key)) WITHOUT ROWID;"
    "CREATE INDEX job_key_expires ON job_key (expires);"

    /* last: of its messages; those that are there are not acknowledged by all subscriptions. topic_ack: what
       has been acknowledged beyond a position. */
    "CREATE TABLE topic ("
    "  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL,"
    "  subscriptions INTEGER NOT NULL);"
    "CREATE TABLE subscription ("
    "  id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,"
    "  UNIQUE (topic, name));"
    "CREATE INDEX subscription_position ON subscription (topic, position);"
    "CREATE TABLE topic_message ("
    "  seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL,"
    "  size INTEGER NOT NULL, blob INTEGER NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL);"
    "CREATE UNIQUE INDEX topic_message_id ON topic_message (topic, id);"
    "CREATE INDEX topic_message_at ON topic_message (at, size);"
    "CREATE TABLE topic_ack ("
    "  topic INTEGER NOT NULL, message INTEGER NOT NULL, subscription INTEGER NOT NULL,"
    "  PRIMARY KEY (topic, message, subscription)) WITHOUT ROWID;"
    /* The greatest last of the topics that are gone: a name that comes back goes on behind it. */
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO counter VALUES ('topic_message', 0);"

    "CREATE TABLE conf (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL);"
    /* Those that something refers to; their ids are never used again. */
    "CREATE TABLE blob (id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL);"

    /* For people. */
    "CREATE VIEW jobs AS SELECT id,"
    "  CASE state WHEN 0 THEN 'queued' WHEN 1 THEN 'running' WHEN 2 THEN 'done' WHEN 3 THEN 'failed'"
    "    WHEN 4 THEN 'cancelled' ELSE 'dead' END AS state,"
    "  service, tenant, priority, hop, attempt, fence, datetime(created / 1000, 'unixepoch') AS created,"
    "  CASE WHEN run_at > 0 THEN datetime(run_at / 1000, 'unixepoch') END AS run_at,"
    "  CASE WHEN ended > 0 THEN datetime(ended / 1000, 'unixepoch') END AS ended, status, reason,"
    "  message_size, answer_size FROM job;"
    "CREATE VIEW subscriptions AS SELECT t.name AS topic, s.name AS name, s.position AS position,"
    "  t.last AS last, (SELECT count(*) FROM topic_message m WHERE m.topic = t.id AND m.id > s.position"
    "    AND NOT EXISTS (SELECT 1 FROM topic_ack a WHERE a.topic = t.id AND a.message = m.id"
    "      AND a.subscription = s.id)) AS waiting"
    "  FROM topic t JOIN subscription s ON s.topic = t.id;";

const char *const db_migrations[] = {version_1, NULL};
