/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To be preloaded (LD_PRELOAD): notes whatever a process writes below a directory, and what it makes durable.
 * From these notes and the directory as it was, disk.py makes the directory as a power failure might have
 * left it.
 *
 *   UNSYNCED_ROOT   the directory, its real path
 *   UNSYNCED_LOG    where the notes go; made anew
 *   UNSYNCED_DELAY  microseconds that every sync takes longer
 *   UNSYNCED_STOP   the process kills itself with its n-th note: a kill just between two changes
 *   UNSYNCED_LIE    "none": syncs do nothing; "late": each makes durable, in all files, just what had been
 * done before the sync before it. Both say that all went well: mutants, for tests of the test
 *
 * A change is noted after it has been made, under a lock that covers both; so the notes are in the order of
 * the changes, and after a kill at most one change is missing, which then counts as not synced: as it may. A
 * sync is noted after it has returned, with the count of notes there were when it began: those are what it
 * covers.
 *
 * -shm files are left out: they are mapped, and made anew after a crash. Anything that would change a file in
 * a way that cannot be noted (shared mappings, copy_file_range, ...) ends the process with a message, so that
 * nothing is missed in silence; disk.py also compares.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum { MAX_FDS = 65536, MAX_PATH = 4096 };

struct note { /* then length bytes: data, or paths relative to the root, each with a NUL */
    uint32_t kind, length;
    uint64_t ino, number;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[MAX_PATH];
static size_t root_length;
static int log_fd = -1;
static uint64_t notes, notes_at_last_sync, stop_at;
static long delay_us;
static bool never, late;
static uint64_t tracked[MAX_FDS]; /* inode of what is below the root; 0: something else */

static _Noreturn void die(const char *what) {
    dprintf(2, "unsynced: %s (%s): cannot be noted\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("UNSYNCED_ROOT"), *log = getenv("UNSYNCED_LOG");
    const char *wait = getenv("UNSYNCED_DELAY"), *lie = getenv("UNSYNCED_LIE"),
               *stop = getenv("UNSYNCED_STOP");
    if (!dir || !log) return;
    root_length = strlen(dir);
    if (root_length >= sizeof root) die("the root's path");
    memcpy(root, dir, root_length + 1);
    stop_at = stop ? strtoull(stop, NULL, 10) : 0;
    delay_us = wait ? atol(wait) : 0;
    never = lie && strcmp(lie, "none") == 0;
    late = lie && strcmp(lie, "late") == 0;
    int fd =
        (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) die("the log");
    log_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 1000); /* out of the way */
    syscall(SYS_close, fd);
    if (log_fd < 0) die("the log");
}

/* ---- notes; the lock is held ---- */

static void write_note(uint32_t kind, uint64_t ino, uint64_t number, const struct iovec *data, int count) {
    struct note n = {.kind = kind, .ino = ino, .number = number};
    struct iovec all[1 + 64];
    size_t total = sizeof n;
    if (count > 64) die("so many pieces");
    for (int i = 0; i < count; i++) {
        all[i + 1] = data[i];
        n.length += (uint32_t)data[i].iov_len;
        total += data[i].iov_len;
    }
    all[0] = (struct iovec){&n, sizeof n};
    if (syscall(SYS_writev, log_fd, all, count + 1) != (long)total) die("a note");
    if (++notes == stop_at) kill(getpid(), SIGKILL);
}

static void note_paths(uint32_t kind, uint64_t ino, const char *path, const char *other) {
    struct iovec data[2] = {{(void *)(uintptr_t)(path + root_length), strlen(path) - root_length + 1}};
    if (other)
        data[1] = (struct iovec){(void *)(uintptr_t)(other + root_length), strlen(other) - root_length + 1};
    write_note(kind, ino, 0, data, other ? 2 : 1);
}

/* ---- what is below the root ---- */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool below(const char *path) {
    return root_length > 0 && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0') && !ends_with(path, "-shm");
}

/* Takes "/name/.." out (there are no symbolic links below the root). */
static void climb(char *path) {
    char *up = path;
    while ((up = strstr(up, "/.."))) {
        char *after = up + 3, *from = up;
        if (*after != '/' && *after != '\0') {
            up = after;
            continue;
        }
        while (from > path && *--from != '/') {
        }
        memmove(from, after, strlen(after) + 1);
        up = path;
    }
}

/* The path from the root of all files; true: it is below ours. */
static bool whole_path(int dir, const char *path, char ret[MAX_PATH]) {
    char link[64], base[MAX_PATH] = "";
    if (root_length == 0) return false;
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return false;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return false;
            base[n] = '\0';
        }
    }
    int n = snprintf(ret, MAX_PATH, "%s%s%s", base, path[0] == '/' ? "" : "/", path);
    if (n <= 0 || n >= MAX_PATH) return false;
    climb(ret);
    return below(ret);
}

static void track(int fd) {
    struct stat st;
    if (fd < 0) return;
    if (fd >= MAX_FDS || fstat(fd, &st) != 0) die("a descriptor");
    tracked[fd] = st.st_ino;
}

/* The inode, if it is one of ours still. */
static uint64_t tracked_ino(int fd) {
    struct stat st;
    if (fd < 0 || fd >= MAX_FDS || tracked[fd] == 0) return 0;
    if (fstat(fd, &st) != 0 || st.st_ino != tracked[fd] || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        tracked[fd] = 0; /* closed behind our back */
    return tracked[fd];
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char whole[MAX_PATH];
    struct stat st;
    if (!whole_path(dir, path, whole)) {
        int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
        if (fd >= 0 && fd < MAX_FDS) tracked[fd] = 0;
        return fd;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) die(whole);
    pthread_mutex_lock(&lock);
    bool there = syscall(SYS_newfstatat, AT_FDCWD, whole, &st, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    int err = errno;
    track(fd);
    if (fd >= 0 && !there) note_paths('C', tracked[fd], whole, NULL);
    if (fd >= 0 && there && (flags & O_TRUNC)) write_note('T', tracked[fd], 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = err;
    return fd;
}

/* ---- opening and closing ---- */

#define OPEN_MODE(flags)                                                                                     \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                                                  \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        mode = va_arg(args, mode_t);                                                                         \
        va_end(args);                                                                                        \
    }

PUBLIC int open(const char *path, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
PUBLIC int open64(const char *path, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
PUBLIC int openat(int dir, const char *path, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(dir, path, flags, mode);
}
PUBLIC int openat64(int dir, const char *path, int flags, ...) {
    OPEN_MODE(flags)
    return open_at(dir, path, flags, mode);
}
PUBLIC int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
PUBLIC int creat64(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What _FORTIFY_SOURCE calls. */
PUBLIC int __open_2(const char *path, int flags);
PUBLIC int __open64_2(const char *path, int flags);
PUBLIC int __openat_2(int dir, const char *path, int flags);
PUBLIC int __openat64_2(int dir, const char *path, int flags);
int __open_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}
int __open64_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}
int __openat_2(int dir, const char *path, int flags) {
    return open_at(dir, path, flags, 0);
}
int __openat64_2(int dir, const char *path, int flags) {
    return open_at(dir, path, flags, 0);
}

PUBLIC int close(int fd) {
    if (fd == log_fd && fd >= 0) return 0; /* by one who closes all there are */
    if (fd >= 0 && fd < MAX_FDS) tracked[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

static int copied(int from, int to) {
    if (to >= 0 && to < MAX_FDS) tracked[to] = from >= 0 && from < MAX_FDS ? tracked[from] : 0;
    return to;
}
PUBLIC int dup(int fd) {
    return copied(fd, (int)syscall(SYS_dup, fd));
}
PUBLIC int dup2(int fd, int to) {
    return copied(fd, (int)syscall(SYS_dup2, fd, to));
}
PUBLIC int dup3(int fd, int to, int flags) {
    return copied(fd, (int)syscall(SYS_dup3, fd, to, flags));
}
/* F_DUPFD is not followed: a descriptor that is not tracked shows when the directories are compared. */

/* ---- contents ---- */

static ssize_t put(int fd, const struct iovec *data, int count, off_t offset, bool at) {
    uint64_t ino = tracked_ino(fd);
    if (ino != 0) pthread_mutex_lock(&lock);
    ssize_t n = at ? syscall(SYS_pwritev, fd, data, count, offset, 0L) : syscall(SYS_writev, fd, data, count);
    int err = errno;
    if (n > 0 && ino != 0) {
        uint64_t from = at ? (uint64_t)offset : (uint64_t)(syscall(SYS_lseek, fd, 0L, SEEK_CUR) - n);
        struct iovec noted[64];
        size_t left = (size_t)n;
        int pieces = 0;
        for (; pieces < count && pieces < 64 && left > 0; pieces++) {
            noted[pieces] = data[pieces];
            if (noted[pieces].iov_len > left) noted[pieces].iov_len = left;
            left -= noted[pieces].iov_len;
        }
        if (left > 0) die("so many pieces");
        write_note('W', ino, from, noted, pieces);
    }
    if (ino != 0) pthread_mutex_unlock(&lock);
    errno = err;
    return n;
}

static struct iovec piece(const void *data, size_t size) {
    return (struct iovec){(void *)(uintptr_t)data, size};
}
PUBLIC ssize_t write(int fd, const void *data, size_t size) {
    if (fd < 0 || fd >= MAX_FDS || tracked[fd] == 0) return syscall(SYS_write, fd, data, size);
    return put(fd, (struct iovec[]){piece(data, size)}, 1, 0, false);
}
PUBLIC ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return put(fd, (struct iovec[]){piece(data, size)}, 1, offset, true);
}
PUBLIC ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return put(fd, (struct iovec[]){piece(data, size)}, 1, offset, true);
}
PUBLIC ssize_t writev(int fd, const struct iovec *data, int count) {
    return put(fd, data, count, 0, false);
}
PUBLIC ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) {
    return put(fd, data, count, offset, true);
}
PUBLIC ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset) {
    return put(fd, data, count, offset, true);
}

static int cut(int fd, off_t size) {
    uint64_t ino = tracked_ino(fd);
    if (ino == 0) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (result == 0) write_note('T', ino, (uint64_t)size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
PUBLIC int ftruncate(int fd, off_t size) {
    return cut(fd, size);
}
PUBLIC int ftruncate64(int fd, off64_t size) {
    return cut(fd, size);
}

/* Space without contents: nothing that a power failure could take away, but for the size. */
static int reserve(int fd, int mode, off_t offset, off_t size) {
    struct stat before, after;
    if (tracked_ino(fd) == 0) return (int)syscall(SYS_fallocate, fd, mode, offset, size);
    if (mode & ~FALLOC_FL_KEEP_SIZE) die("fallocate");
    pthread_mutex_lock(&lock);
    int result = fstat(fd, &before) != 0 ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
    if (result == 0 && fstat(fd, &after) == 0 && after.st_size != before.st_size)
        write_note('T', tracked[fd], (uint64_t)after.st_size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
PUBLIC int fallocate(int fd, int mode, off_t offset, off_t size) {
    return reserve(fd, mode, offset, size);
}
PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    return reserve(fd, mode, offset, size);
}
PUBLIC int posix_fallocate(int fd, off_t offset, off_t size) {
    return reserve(fd, 0, offset, size) == 0 ? 0 : errno;
}
PUBLIC int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    return reserve(fd, 0, offset, size) == 0 ? 0 : errno;
}

/* ---- names ---- */

static int unlink_at(int dir, const char *path, int flags) {
    char whole[MAX_PATH];
    if (!whole_path(dir, path, whole)) return (int)syscall(SYS_unlinkat, dir, path, flags);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, dir, path, flags), err = errno;
    if (result == 0) note_paths('U', 0, whole, NULL);
    pthread_mutex_unlock(&lock);
    errno = err;
    return result;
}
PUBLIC int unlink(const char *path) {
    return unlink_at(AT_FDCWD, path, 0);
}
PUBLIC int unlinkat(int dir, const char *path, int flags) {
    return unlink_at(dir, path, flags);
}
PUBLIC int rmdir(const char *path) {
    return unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}
PUBLIC int remove(const char *path) {
    int result = unlink_at(AT_FDCWD, path, 0);
    return result != 0 && errno == EISDIR ? unlink_at(AT_FDCWD, path, AT_REMOVEDIR) : result;
}

static int make_dir(int dir, const char *path, mode_t mode) {
    char whole[MAX_PATH];
    struct stat st;
    if (!whole_path(dir, path, whole)) return (int)syscall(SYS_mkdirat, dir, path, mode);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_mkdirat, dir, path, mode), err = errno;
    if (result == 0 &&
        whole[root_length] != '\0') { /* the root itself: whoever made its parent sees to that */
        if (syscall(SYS_newfstatat, AT_FDCWD, whole, &st, 0) != 0) die(whole);
        note_paths('D', st.st_ino, whole, NULL);
    }
    pthread_mutex_unlock(&lock);
    errno = err;
    return result;
}
PUBLIC int mkdir(const char *path, mode_t mode) {
    return make_dir(AT_FDCWD, path, mode);
}
PUBLIC int mkdirat(int dir, const char *path, mode_t mode) {
    return make_dir(dir, path, mode);
}

static int rename_at(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char whole_from[MAX_PATH], whole_to[MAX_PATH];
    bool from_below = whole_path(from_dir, from, whole_from), to_below = whole_path(to_dir, to, whole_to);
    if (!from_below && !to_below) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (!from_below || !to_below || flags) die("such a rename");
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), err = errno;
    if (result == 0) note_paths('R', 0, whole_from, whole_to);
    pthread_mutex_unlock(&lock);
    errno = err;
    return result;
}
PUBLIC int rename(const char *from, const char *to) {
    return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}
PUBLIC int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return rename_at(from_dir, from, to_dir, to, 0);
}
PUBLIC int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return rename_at(from_dir, from, to_dir, to, flags);
}

/* ---- what makes durable ---- */

static int make_durable(int fd, long call) {
    uint64_t ino = tracked_ino(fd);
    if (ino == 0) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t covers = late ? notes_at_last_sync : notes;
    notes_at_last_sync = notes;
    pthread_mutex_unlock(&lock);
    if (never) return 0;
    if (delay_us > 0 && !late) nanosleep(&(struct timespec){.tv_nsec = delay_us * 1000}, NULL);
    int result = (int)syscall(call, fd);
    if (result != 0) return result;
    pthread_mutex_lock(&lock);
    write_note('S', late ? 0 : ino, covers, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}
PUBLIC int fsync(int fd) {
    return make_durable(fd, SYS_fsync);
}
PUBLIC int fdatasync(int fd) {
    return make_durable(fd, SYS_fdatasync);
}

/* ---- what cannot be noted ---- */

static void *map(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE) && tracked_ino(fd) != 0) die("a shared mapping");
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset); // NOLINT: the call's result
}
PUBLIC void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return map(at, size, protection, flags, fd, offset);
}
PUBLIC void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    return map(at, size, protection, flags, fd, offset);
}

PUBLIC ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size,
                               unsigned flags) {
    if (tracked_ino(to) != 0) die("copy_file_range");
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
}

static int no_link(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char whole[MAX_PATH];
    if (whole_path(to_dir, to, whole) || whole_path(from_dir, from, whole)) die("a link");
    return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}
PUBLIC int link(const char *from, const char *to) {
    return no_link(AT_FDCWD, from, AT_FDCWD, to, 0);
}
PUBLIC int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    return no_link(from_dir, from, to_dir, to, flags);
}
