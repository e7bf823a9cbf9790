/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of this same program, run by the demo. They are in process groups of their own, so that a Ctrl-C
 * at the terminal reaches only the demo, which stops them in good order; and they get SIGTERM when it dies.
 * One thread; SIGCHLD, SIGINT and SIGTERM must be blocked while fleet_pause and fleet_stop run.
 */
#ifndef CLI_FLEET_H
#define CLI_FLEET_H

#include <stdbool.h>
#include <sys/types.h>

enum { FLEET_MOST = 256, FLEET_ARGS = 32 };

struct fleet {
    struct fleet_member {
        pid_t pid; /* 0: has ended */
        const char *name;
    } members[FLEET_MOST];
    unsigned count;
};

/* Starts `weir argv...` (argv ends with NULL and begins after the program's name). The configuration in the
   environment is not passed on. name is borrowed. 0 or WEIR_EIO. */
int fleet_start(struct fleet *f, const char *name, const char *const *argv);
/* The name of a member that has ended by itself, and how, as waitpid says it; NULL: none has. */
const char *fleet_lost(struct fleet *f, int *ret_status);
/* Waits for a signal, at most ms milliseconds. True: SIGINT or SIGTERM came. */
bool fleet_pause(int ms);
/* SIGTERM to all, SIGKILL to those who are there ms milliseconds later; returns when all are gone. */
void fleet_stop(struct fleet *f, int ms);

#endif
