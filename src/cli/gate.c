/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: proc(5) /proc/stat and /proc/meminfo; cgroups(7), the kernel's cgroup-v2 "cpu.max", "cpu.stat",
   "memory.max", "memory.current", and v1 "cpu.cfs_quota_us", "cpuacct.usage", "memory.limit_in_bytes". */
#include "cli/gate.h"
#include "base/clock.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_SIZE = 512 };

void gate_init(struct gate *g) {
    *g = (struct gate){0};
}

/* The directory of this process's cgroup for a controller: v2's one hierarchy, or v1's. */
static bool group_directory(const char *controller, bool v2, char path[PATH_SIZE]) {
    char line[PATH_SIZE];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        *names++ = *group++ = '\0';
        if (v2 ? *names != '\0' : !strstr(names, controller)) continue;
        const char *mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/";
        int n =
            snprintf(path, PATH_SIZE, "%s%s%s", mount, v2 ? "" : controller, strcmp(group, "/") ? group : "");
        found = n > 0 && n < PATH_SIZE - 64 && access(path, R_OK) == 0;
    }
    if (f) fclose(f);
    return found;
}

/* Reads numbers from a small file; returns how many. "max" is none. */
static int read_numbers(const char *directory, const char *name, uint64_t *a, uint64_t *b) {
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    int n = fscanf(f, "%lu %lu", a, b);
    fclose(f);
    return n < 0 ? 0 : n;
}

static bool read_field(const char *directory, const char *name, const char *field, uint64_t *ret) {
    char path[PATH_SIZE + 64], line[160], format[80];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(format, sizeof format, "%s %%lu", field);
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) found = sscanf(line, format, ret) == 1;
    if (f) fclose(f);
    return found;
}

/* CPUs that the cgroup may use, and what it has used; false: no limit. */
static bool group_cpu(double *ret_quota, uint64_t *ret_used_us) {
    char directory[PATH_SIZE];
    uint64_t quota = 0, period = 0, used = 0;
    if (group_directory("", true, directory) && read_numbers(directory, "cpu.max", &quota, &period) == 2 &&
        read_field(directory, "cpu.stat", "usage_usec", &used)) {
        *ret_quota = (double)quota / (double)period;
        *ret_used_us = used;
        return true;
    }
    uint64_t none;
    if (!group_directory("cpu", false, directory) ||
        read_numbers(directory, "cpu.cfs_quota_us", &quota, &none) != 1 || quota > INT_MAX ||
        read_numbers(directory, "cpu.cfs_period_us", &period, &none) != 1 || period == 0)
        return false;
    if (!group_directory("cpuacct", false, directory) ||
        read_numbers(directory, "cpuacct.usage", &used, &none) != 1)
        return false;
    *ret_quota = (double)quota / (double)period;
    *ret_used_us = used / 1000;
    return true;
}

/* Ticks in which a CPU was idle or waited for a disk, over all CPUs. */
static uint64_t idle_ticks(void) {
    unsigned long long idle = 0, wait = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (f && fscanf(f, "cpu %*u %*u %*u %llu %llu", &idle, &wait) != 2) idle = wait = 0;
    if (f) fclose(f);
    return idle + wait;
}

/* CPU time of the direct children of one of our threads, and of theirs that have ended. */
static uint64_t children_us(const char *list) {
    uint64_t ticks = 0;
    int pid;
    FILE *f = fopen(list, "re");
    while (f && fscanf(f, "%d", &pid) == 1) {
        char path[64];
        unsigned long long user = 0, system = 0, ended_user = 0, ended_system = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *stat = fopen(path, "re");
        if (stat &&
            fscanf(stat, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &user,
                   &system, &ended_user, &ended_system) == 4)
            ticks += user + system + ended_user + ended_system;
        if (stat) fclose(stat);
    }
    if (f) fclose(f);
    return ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static uint64_t rusage_us(int who) {
    struct rusage u;
    if (getrusage(who, &u) != 0) return 0;
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* CPU time of this process and its children, running ones included. */
static uint64_t own_us(void) {
    uint64_t us = rusage_us(RUSAGE_SELF) + rusage_us(RUSAGE_CHILDREN);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        char path[300];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", e->d_name);
        us += children_us(path);
    }
    if (tasks) closedir(tasks);
    return us;
}

/* Measures what was ours to use since the last question. */
static void measure(struct gate *g) {
    uint64_t now = clock_mono_ns() / 1000, idle = idle_ticks(), own = own_us(), used = 0;
    double quota = 0, seconds = (double)(now - g->at_us) / 1e6;
    bool limited = group_cpu(&quota, &used);
    if (g->at_us && seconds > 0) {
        double mine = own > g->own_us ? (double)(own - g->own_us) / 1e6 / seconds : 0;
        double free = (double)(idle - g->idle_ticks) / (double)sysconf(_SC_CLK_TCK) / seconds;
        double left = quota - (double)(used - g->group_us) / 1e6 / seconds;
        if (limited && left < free) free = left;
        g->ours = g->measured ? g->ours * 0.5 + (free + mine) * 0.5 : free + mine;
        g->measured = true;
    }
    g->at_us = now;
    g->idle_ticks = idle;
    g->own_us = own;
    g->group_us = used;
}

/* Of a machine or cgroup that has fewer CPUs than are wanted, all but a tenth of one are enough: else no job
   would ever be taken. */
static double cpus_wanted(const struct gate *g) {
    double all = (double)sysconf(_SC_NPROCESSORS_ONLN), quota;
    uint64_t used;
    if (group_cpu(&quota, &used) && quota < all) all = quota;
    double most = all > 0.2 ? all - 0.1 : all / 2;
    return g->cpus < most ? g->cpus : most;
}

static uint64_t memory_available(void) {
    char directory[PATH_SIZE];
    uint64_t kib = 0, most = 0, used = 0, none;
    uint64_t available = read_field("/proc", "meminfo", "MemAvailable:", &kib) ? kib * 1024 : UINT64_MAX;
    bool limited =
        (group_directory("", true, directory) && read_numbers(directory, "memory.max", &most, &none) == 1 &&
         read_numbers(directory, "memory.current", &used, &none) == 1) ||
        (group_directory("memory", false, directory) &&
         read_numbers(directory, "memory.limit_in_bytes", &most, &none) == 1 &&
         read_numbers(directory, "memory.usage_in_bytes", &used, &none) == 1);
    uint64_t left = most > used ? most - used : 0;
    return limited && left < available ? left : available;
}

unsigned gate_ask(void *gate, unsigned running) {
    struct gate *g = gate;
    unsigned jobs = UINT_MAX;
    if (g->cpus > 0) {
        measure(g);
        double room = g->measured ? (g->ours + 0.1) / cpus_wanted(g) : 0;
        jobs = room < 0 ? 0 : room > 1e6 ? 1000000 : (unsigned)room;
    }
    if (g->memory > 0) { /* one more at a time: what it takes shows only then */
        unsigned most = running + (memory_available() >= g->memory ? 1 : 0);
        if (most < jobs) jobs = most;
    }
    return jobs;
}
