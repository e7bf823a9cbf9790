/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: proc(5) /proc/stat and /proc/meminfo; cgroups(7), the kernel's cgroup-v2 "cpu.max", "cpu.stat",
   "memory.max", "memory.current", and v1 "cpu.cfs_quota_us", "cpuacct.usage", "memory.limit_in_bytes". */
#include "cli/gate.h"
#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
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

/* Measures the idle CPUs since the last question. */
static void measure(struct gate *g) {
    uint64_t now = clock_mono_ns() / 1000, idle = idle_ticks(), used = 0;
    double quota = 0, seconds = (double)(now - g->at_us) / 1e6;
    bool limited = group_cpu(&quota, &used);
    if (g->at_us && seconds > 0) {
        double cpus = (double)(idle - g->idle_ticks) / (double)sysconf(_SC_CLK_TCK) / seconds;
        double left = quota - (double)(used - g->group_us) / 1e6 / seconds;
        if (limited && left < cpus) cpus = left;
        g->idle = g->measured ? g->idle * 0.5 + cpus * 0.5 : cpus;
        g->measured = true;
    }
    g->at_us = now;
    g->idle_ticks = idle;
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
    unsigned more = UINT_MAX;
    if (g->cpus > 0) {
        measure(g);
        double room = g->measured ? (g->idle + 0.05) / cpus_wanted(g) : 0;
        more = room < 0 ? 0 : room > UINT_MAX ? UINT_MAX : (unsigned)room;
        /* Jobs that began since the last question are not in the measure yet. */
        unsigned begun = running > g->running ? running - g->running : 0;
        more = more > begun ? more - begun : 0;
        g->running = running;
    }
    if (g->memory > 0) {
        uint64_t jobs = memory_available() / g->memory;
        if (jobs < more) more = (unsigned)jobs;
        if (more > 1) more = 1; /* one at a time: what it takes shows only then */
    }
    return more;
}
