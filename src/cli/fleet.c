/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: started by fork and exec of /proc/self/exe, which is this program whatever it is called.
 */
#include "cli/fleet.h"

#include "base/clock.h"
#include "hub/config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

/* What was set for a hub of the user's is not meant for these. */
static void clean_environment(void) {
    char name[64];
    unsetenv("WEIR_CONFIG");
    for (size_t i = 0; i < config_keys_count; i++) {
        if (config_keys[i].type == CONFIG_GROUP) continue;
        config_env_name(config_keys[i].flag, name, sizeof name);
        unsetenv(name);
    }
}

static _Noreturn void become(const char *const *argv, pid_t parent) {
    char *all[FLEET_ARGS + 2] = {(char *)"weir"};
    sigset_t none;
    for (int i = 0; argv[i] && i < FLEET_ARGS; i++) all[i + 1] = (char *)(uintptr_t)argv[i];
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(0); /* it died before it could be watched */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    clean_environment();
    execv("/proc/self/exe", all);
    _exit(127);
}

int fleet_start(struct fleet *f, const char *name, const char *const *argv) {
    pid_t parent = getpid();
    if (f->count >= FLEET_MOST) return WEIR_EIO;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return WEIR_EIO;
    if (pid == 0) become(argv, parent);
    f->members[f->count++] = (struct fleet_member){pid, name};
    return 0;
}

/* Takes the end of members that have ended. Returns one of them, or NULL. */
static struct fleet_member *reap(struct fleet *f, int *ret_status) {
    for (unsigned i = 0; i < f->count; i++) {
        struct fleet_member *m = &f->members[i];
        if (m->pid == 0 || waitpid(m->pid, ret_status, WNOHANG) != m->pid) continue;
        m->pid = 0;
        return m;
    }
    return NULL;
}

const char *fleet_lost(struct fleet *f, int *ret_status) {
    struct fleet_member *m = reap(f, ret_status);
    return m ? m->name : NULL;
}

bool fleet_pause(int ms) {
    struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    int number = sigtimedwait(&set, NULL, &limit);
    return number == SIGINT || number == SIGTERM;
}

static void signal_all(const struct fleet *f, int number) {
    for (unsigned i = 0; i < f->count; i++) {
        if (f->members[i].pid) kill(f->members[i].pid, number);
    }
}

static bool all_gone(struct fleet *f) {
    int status;
    while (reap(f, &status)) continue;
    for (unsigned i = 0; i < f->count; i++) {
        if (f->members[i].pid) return false;
    }
    return true;
}

void fleet_stop(struct fleet *f, int ms) {
    uint64_t until = clock_mono_ms() + (uint64_t)ms;
    signal_all(f, SIGTERM);
    while (!all_gone(f) && clock_mono_ms() < until) {
        if (fleet_pause(100)) until = 0; /* asked again: no more patience */
    }
    signal_all(f, SIGKILL);
    while (!all_gone(f)) fleet_pause(100);
}
