/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `weir work`: programs, HTTP servers and small built-in services as pulling workers. One file for each kind
 * of work; each is a handler of libweir, and runs on several threads at once.
 */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include "base/slice.h"
#include "cli/cli.h"

#include <pthread.h>
#include <weir/weir.h>

enum work_output { WORK_AUTO, WORK_CGI, WORK_PLAIN };

struct work {
    struct cli *cli;
    pthread_mutex_t log_lock;
    /* a command */
    char **command; /* ends with NULL */
    char *program;  /* where command[0] was found */
    enum work_output output;
    const char *content_type; /* of plain output */
    bool stream;              /* pass output on as it comes */
    uint64_t kill_after_ms;   /* from SIGTERM to SIGKILL */
    /* an HTTP server */
    struct work_upstream *upstream;
    const char *strip; /* taken off the front of paths; NULL: nothing */
    /* files */
    int root; /* a directory's descriptor */
};

/* A line to the log. Any thread. */
void work_log(struct work *w, enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The job's X-Request-Id, for the log. */
const char *work_request_id(const weir_job *job);

/* work_command.c */
/* Finds the program on PATH. An exit status, or -1: go on. */
int work_command_prepare(struct work *w);
weir_handler work_command;

/* work_http.c */
/* http://HOST[:PORT][/PREFIX], or unix:PATH. An exit status, or -1: go on. */
int work_http_prepare(struct work *w, const char *url);
void work_http_fini(struct work *w);
weir_handler work_http;

/* work_file.c */
int work_file_prepare(struct work *w, const char *root);
weir_handler work_file, work_echo;

#endif
