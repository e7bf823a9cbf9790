/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All statements. Numbers of states are those of enum store_job_state; where a partial index is to be used,
 * its condition must be repeated word for word.
 */
#ifndef STORE_SQLITE_SQL_H
#define STORE_SQLITE_SQL_H

#define SQL_JOB                                                                                              \
    "seq, id, state, kind, service, tenant, gather, priority, hop, attempt, cost, fence, created, run_at, "  \
    "deadline, ended, expires, callback, callback_at, callback_attempt, reason, status, "                    \
    "message_blob, message_size, answer_blob, answer_size"

#define SQL_ENDED "state >= 2"
#define SQL_IN_MASK "(1 << state) & ? "
#define SQL_OF "(? OR service = ?) AND (? OR tenant = ?) "

/* A message that this subscription has not acknowledged. */
#define SQL_UNREAD                                                                                           \
    "NOT EXISTS (SELECT 1 FROM topic_ack a "                                                                 \
    "WHERE a.topic = m.topic AND a.message = m.id AND a.subscription = ?) "

#define SQL_STATEMENTS(X)                                                                                    \
    X(BEGIN_READ, "BEGIN")                                                                                   \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                              \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    X(PAGES, "PRAGMA page_count")                                                                            \
    X(FREE_PAGES, "PRAGMA freelist_count")                                                                   \
    X(PAGE_SIZE, "PRAGMA page_size")                                                                         \
    X(VACUUM, "PRAGMA incremental_vacuum(2048)")                                                             \
                                                                                                             \
    X(JOB_NEW, "INSERT INTO job (id, state, kind, service, tenant, gather, priority, hop, attempt, cost, "   \
               "fence, created, run_at, deadline, callback, callback_at, callback_attempt, reason, "         \
               "message_blob, message_size) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "               \
               "ON CONFLICT (id) DO NOTHING")                                                                \
    X(JOB_BY_ID, "SELECT " SQL_JOB " FROM job WHERE id = ?")                                                 \
    X(JOB_STAND, "SELECT seq, state, fence, message_blob, message_size FROM job WHERE id = ?")               \
    X(JOB_LINE, "SELECT " SQL_JOB " FROM job INDEXED BY job_line WHERE state = 0 AND run_at = 0 "            \
                "AND service = ? AND tenant = ? AND priority = ? ORDER BY seq LIMIT ?")                      \
    X(JOB_DUE, "SELECT " SQL_JOB " FROM job INDEXED BY job_run_at WHERE state = 0 AND run_at > 0 "           \
               "ORDER BY run_at, seq")                                                                       \
    X(JOB_LEASE, "UPDATE job SET state = 1, run_at = 0, fence = fence + 1 WHERE seq = ?")                    \
    X(JOB_WAKE, "UPDATE job SET run_at = 0 WHERE seq = ?")                                                   \
    X(JOB_STEP, "UPDATE job SET kind = ?, service = ?, gather = ?, hop = ?, priority = ?, cost = ?, "        \
                "attempt = 0, message_blob = ?, message_size = ? WHERE seq = ?")                             \
    X(JOB_RELEASE, "UPDATE job SET state = 0, attempt = ?, run_at = ?, reason = ? WHERE seq = ?")            \
    X(JOB_FINISH, "UPDATE job SET state = ?, ended = ?, expires = ?, callback_at = ?, "                      \
                  "callback_attempt = 0, reason = ?, "                                                       \
                  "status = ?, message_blob = ?, message_size = ?, answer_blob = ?, answer_size = ? "        \
                  "WHERE seq = ?")                                                                           \
    X(JOB_REVIVE, "UPDATE job SET state = 0, attempt = 0, run_at = 0, ended = 0, expires = 0, status = 0, "  \
                  "answer_blob = 0, answer_size = 0 WHERE seq = ?")                                          \
    X(JOB_RESET, "UPDATE job SET state = 0 WHERE seq IN (SELECT seq FROM job INDEXED BY job_state "          \
                 "WHERE state IN (1, 3, 5) AND state = 1)")                                                  \
    X(JOB_LIST, "SELECT " SQL_JOB " FROM job INDEXED BY job_id WHERE id > ? AND id <= ? AND " SQL_IN_MASK    \
                "AND " SQL_OF "ORDER BY id LIMIT ?")                                                         \
    X(JOB_LIST_END, "SELECT id FROM job INDEXED BY job_id WHERE id > ? ORDER BY id LIMIT 1 OFFSET 4999")     \
    X(JOB_LIST_FEW, "SELECT " SQL_JOB " FROM job INDEXED BY job_state WHERE state IN (1, 3, 5) "             \
                    "AND id > ? AND id <= ? AND " SQL_IN_MASK "AND " SQL_OF "ORDER BY id LIMIT ?")           \
    X(JOB_LINES, "SELECT service, tenant, priority, count(*) FROM job INDEXED BY job_line "                  \
                 "WHERE state = 0 AND run_at = 0 GROUP BY service, tenant, priority")                        \
    X(JOB_NEXT_DUE, "SELECT min(run_at) FROM job INDEXED BY job_run_at WHERE state = 0 AND run_at > 0")      \
    X(JOB_PURGE, "SELECT seq, state, ended, service, tenant FROM job WHERE seq > ? ORDER BY seq LIMIT ?")    \
    X(JOB_EXPIRED, "SELECT seq FROM job INDEXED BY job_ended WHERE " SQL_ENDED " AND expires <= ? "          \
                   "ORDER BY expires LIMIT ?")                                                               \
    X(JOB_BLOBS, "SELECT state, message_blob, message_size, answer_blob, answer_size FROM job "              \
                 "WHERE seq = ?")                                                                            \
    X(JOB_DROP, "DELETE FROM job WHERE seq = ?")                                                             \
    X(JOB_MESSAGE, "SELECT head, body FROM job_message WHERE job = ?")                                       \
    X(JOB_MESSAGE_SET, "INSERT OR REPLACE INTO job_message (job, head, body) VALUES (?,?,?)")                \
    X(JOB_MESSAGE_DROP, "DELETE FROM job_message WHERE job = ?")                                             \
    X(JOB_ANSWER, "SELECT head, body FROM job_answer WHERE job = ?")                                         \
    X(JOB_ANSWER_SET, "INSERT OR REPLACE INTO job_answer (job, head, body) VALUES (?,?,?)")                  \
    X(JOB_ANSWER_DROP, "DELETE FROM job_answer WHERE job = ?")                                               \
                                                                                                             \
    X(PART_NEW, "INSERT INTO job_part (job, part, status, head, body, blob, size) VALUES (?,?,?,?,?,?,?)")   \
    X(PART_FIND, "SELECT 1 FROM job_part WHERE job = ? AND part = ?")                                        \
    X(PART_LIST, "SELECT part, status, head, body, blob, size FROM job_part WHERE job = ? ORDER BY part")    \
    X(PART_BLOBS, "SELECT blob, size FROM job_part WHERE job = ?")                                           \
    X(PART_DROP, "DELETE FROM job_part WHERE job = ?")                                                       \
                                                                                                             \
    X(KEY_FIND, "SELECT hash, job, expires FROM job_key WHERE service = ? AND tenant = ? AND key = ? "       \
                "AND EXISTS (SELECT 1 FROM job WHERE id = job_key.job)")                                     \
    X(KEY_SET, "INSERT OR REPLACE INTO job_key (service, tenant, key, hash, job, expires) "                  \
               "VALUES (?,?,?,?,?,?)")                                                                       \
    X(KEY_EXPIRED, "SELECT count(*) FROM (SELECT 1 FROM job_key WHERE expires <= ? LIMIT ?)")                \
    X(KEY_SWEEP, "DELETE FROM job_key WHERE (service, tenant, key) IN "                                      \
                 "(SELECT service, tenant, key FROM job_key WHERE expires <= ? ORDER BY expires LIMIT ?)")   \
                                                                                                             \
    X(CALLBACK_DUE, "SELECT " SQL_JOB " FROM job INDEXED BY job_callback WHERE callback_at > 0 "             \
                    "AND " SQL_ENDED " ORDER BY callback_at, seq")                                           \
    X(CALLBACK_SET, "UPDATE job SET callback_at = ?, callback_attempt = ? WHERE id = ? AND ended = ?")       \
                                                                                                             \
    X(TOPIC_FIND, "SELECT id, last, subscriptions FROM topic WHERE name = ?")                                \
    X(TOPIC_NEW, "INSERT INTO topic (name, last, subscriptions) "                                            \
                 "VALUES (?, (SELECT value FROM counter WHERE name = 'topic_message'), 0)")                  \
    X(TOPIC_COUNT, "UPDATE topic SET subscriptions = subscriptions + ? WHERE id = ?")                        \
    X(TOPIC_LAST, "UPDATE topic SET last = ? WHERE id = ?")                                                  \
    X(TOPIC_DROP, "DELETE FROM topic WHERE id = ?")                                                          \
    X(TOPIC_FLOOR, "UPDATE counter SET value = max(value, ?) WHERE name = 'topic_message'")                  \
                                                                                                             \
    X(SUBSCRIPTION_FIND, "SELECT s.id, s.position, t.id, t.last, t.subscriptions FROM topic t "              \
                         "JOIN subscription s ON s.topic = t.id WHERE t.name = ? AND s.name = ?")            \
    X(SUBSCRIPTION_NEW, "INSERT INTO subscription (topic, name, position) VALUES (?,?,?)")                   \
    X(SUBSCRIPTION_MOVE, "UPDATE subscription SET position = ? WHERE id = ?")                                \
    X(SUBSCRIPTION_DROP, "DELETE FROM subscription WHERE id = ?")                                            \
    X(SUBSCRIPTION_LOW, "SELECT min(position) FROM subscription WHERE topic = ?")                            \
    X(SUBSCRIPTION_BEHIND, "SELECT count(*) FROM (SELECT 1 FROM subscription WHERE topic = ? "               \
                           "AND position < ? LIMIT ?)")                                                      \
    X(SUBSCRIPTION_ALL, "SELECT t.name, s.name, s.position, t.last FROM topic t "                            \
                        "JOIN subscription s ON s.topic = t.id ORDER BY t.name, s.name")                     \
                                                                                                             \
    X(MESSAGE_NEW, "INSERT INTO topic_message (topic, id, at, size, blob, type, body) "                      \
                   "VALUES (?,?,?,?,?,?,?)")                                                                 \
    X(MESSAGE_NEXT, "SELECT m.id FROM topic_message m WHERE m.topic = ? AND m.id > ? AND " SQL_UNREAD        \
                    "ORDER BY m.id LIMIT 1")                                                                 \
    X(MESSAGE_HAS, "SELECT 1 FROM topic_message m WHERE m.topic = ? AND m.id = ? AND " SQL_UNREAD)           \
    X(MESSAGE_READ, "SELECT m.id, m.at, m.size, m.blob, m.type, m.body FROM topic_message m "                \
                    "WHERE m.topic = ? AND m.id > ? AND " SQL_UNREAD "ORDER BY m.id LIMIT ?")                \
    X(MESSAGE_RANGE, "SELECT size, blob FROM topic_message WHERE topic = ? AND id BETWEEN ? AND ?")          \
    X(MESSAGE_DROP, "DELETE FROM topic_message WHERE topic = ? AND id BETWEEN ? AND ?")                      \
    X(MESSAGE_OLD, "SELECT topic, id FROM topic_message WHERE at < ? ORDER BY at LIMIT ?")                   \
                                                                                                             \
    X(ACK_NEW, "INSERT INTO topic_ack (topic, message, subscription) VALUES (?,?,?)")                        \
    X(ACK_OF, "DELETE FROM topic_ack WHERE topic = ? AND message <= ? AND subscription = ?")                 \
    X(ACK_DROP, "DELETE FROM topic_ack WHERE topic = ? AND message BETWEEN ? AND ?")                         \
    X(ACK_NEXT, "SELECT message, count(*) FROM topic_ack WHERE topic = ? AND message BETWEEN ? AND ? "       \
                "GROUP BY message LIMIT 1")                                                                  \
                                                                                                             \
    X(CONF_GET, "SELECT value, revision FROM conf WHERE key = ?")                                            \
    X(CONF_REVISION, "SELECT revision FROM conf WHERE key = ?")                                              \
    X(CONF_SET, "INSERT OR REPLACE INTO conf (key, value, revision) VALUES (?,?,?)")                         \
                                                                                                             \
    X(BLOB_NEW, "INSERT INTO blob (id, size) VALUES (?,?)")                                                  \
    X(BLOB_FIND, "SELECT 1 FROM blob WHERE id = ?")                                                          \
    X(BLOB_DROP, "DELETE FROM blob WHERE id = ?")                                                            \
    X(BLOB_LAST, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'blob'")                    \
                                                                                                             \
    X(COUNT_QUEUED, "SELECT count(*) FROM job INDEXED BY job_line WHERE state = 0 AND run_at = 0")           \
    X(COUNT_DELAYED, "SELECT count(*) FROM job INDEXED BY job_run_at WHERE state = 0 AND run_at > 0")        \
    X(COUNT_LEASED, "SELECT count(*) FROM job INDEXED BY job_state WHERE state IN (1, 3, 5) AND state = 1")  \
    X(COUNT_ENDED, "SELECT total(state = 2), total(state = 3), total(state = 4), total(state = 5) "          \
                   "FROM job INDEXED BY job_ended WHERE " SQL_ENDED)                                         \
    X(COUNT_TOPICS, "SELECT count(*), coalesce(sum(subscriptions), 0) FROM topic")                           \
    X(COUNT_MESSAGES, "SELECT count(*), coalesce(sum(size), 0) FROM topic_message")                          \
    X(COUNT_BLOBS, "SELECT count(*), coalesce(sum(size), 0) FROM blob")

enum sql {
#define SQL_ENUM(name, text) SQL_##name,
    SQL_STATEMENTS(SQL_ENUM)
#undef SQL_ENUM
        SQL_COUNT
};

#endif
