/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite store when disks fail, are damaged or full, when memory runs out, and when it is killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/fault.h"
#include "sqlite_world.h"
#include "weir/weir.h"
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- failing disks: a VFS between SQLite and the real one ---- */

static atomic_int fail_syncs, fail_writes, write_error; /* how many of them fail, and with what */

struct shim_file {
    sqlite3_file base;
    sqlite3_file *real;
    bool log;
};

static sqlite3_file *real_of(sqlite3_file *f) {
    return ((struct shim_file *)f)->real;
}
static bool fails(atomic_int *left) {
    int n = atomic_load(left);
    return n > 0 && atomic_fetch_sub(left, 1) > 0;
}
static int shim_close(sqlite3_file *f) {
    return real_of(f)->pMethods->xClose(real_of(f));
}
static int shim_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at) {
    return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
}
static int shim_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) {
    if (((struct shim_file *)f)->log && fails(&fail_writes)) return atomic_load(&write_error);
    return real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
}
static int shim_truncate(sqlite3_file *f, sqlite3_int64 size) {
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}
static int shim_sync(sqlite3_file *f, int flags) {
    if (((struct shim_file *)f)->log && fails(&fail_syncs)) return SQLITE_IOERR_FSYNC;
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}
static int shim_size(sqlite3_file *f, sqlite3_int64 *size) {
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}
static int shim_lock(sqlite3_file *f, int level) {
    return real_of(f)->pMethods->xLock(real_of(f), level);
}
static int shim_unlock(sqlite3_file *f, int level) {
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}
static int shim_check(sqlite3_file *f, int *ret) {
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}
static int shim_control(sqlite3_file *f, int op, void *arg) {
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int shim_sector(sqlite3_file *f) {
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}
static int shim_device(sqlite3_file *f) {
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}
static int shim_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret) {
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, ret);
}
static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}
static void shim_barrier(sqlite3_file *f) {
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}
static int shim_unmap(sqlite3_file *f, int remove) {
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods shim_methods = {
    2,           shim_close, shim_read,    shim_write,  shim_truncate, shim_sync, shim_size,     shim_lock,
    shim_unlock, shim_check, shim_control, shim_sector, shim_device,   shim_map,  shim_shm_lock, shim_barrier,
    shim_unmap,  NULL,       NULL};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags) {
    sqlite3_vfs *real = vfs->pAppData;
    struct shim_file *shim = (struct shim_file *)f;
    shim->real = (sqlite3_file *)(shim + 1);
    shim->log = flags & SQLITE_OPEN_WAL;
    int r = real->xOpen(real, name, shim->real, flags, ret_flags);
    f->pMethods = r == SQLITE_OK ? &shim_methods : NULL;
    return r;
}

static void shim_install(sqlite3_vfs *shim) {
    sqlite3_vfs *real = sqlite3_vfs_find(NULL);
    *shim = *real;
    shim->zName = "shim";
    shim->pAppData = real;
    shim->szOsFile = (int)sizeof(struct shim_file) + real->szOsFile;
    shim->xOpen = shim_open;
    assert_int_equal(sqlite3_vfs_register(shim, 1), SQLITE_OK);
}

/* Nothing that has failed is there, nothing is acknowledged that is not, and it goes on when the disk does.
 */
static void test_failing_disk(void **state) {
    struct world w;
    struct call c[20];
    sqlite3_vfs shim;
    (void)state;
    shim_install(&shim);
    world_init(&w);
    world_open(&w);
    assert_int_equal(put(&w, 1, true), 0);
    atomic_store(&fail_syncs, 1);
    assert_int_equal(put(&w, 2, true), WEIR_EUNAVAILABLE);
    assert_int_equal(state_of(&w, 2), WEIR_ENOTFOUND);
    assert_int_equal(put(&w, 2, true), 0);
    atomic_store(&fail_writes, 1);
    atomic_store(&write_error, SQLITE_FULL);
    assert_int_equal(finish(&w, 2, 1, STORE_DONE), WEIR_ENOSPACE);
    assert_int_equal(state_of(&w, 2), STORE_LEASED);
    atomic_store(&write_error, SQLITE_IOERR_WRITE);
    atomic_store(&fail_writes, 1000);
    assert_int_equal(finish(&w, 2, 1, STORE_DONE), WEIR_EUNAVAILABLE);
    atomic_store(&fail_writes, 0);
    assert_int_equal(stats(&w).jobs[STORE_LEASED], 2);
    assert_int_equal(stats(&w).errors, 3);
    assert_int_equal(finish(&w, 2, 1, STORE_DONE), 0);

    /* A batch: some fail, some do not, each whole. */
    for (int i = 0; i < 20; i++) begin_put(&c[i], 100 + (uint64_t)i, true, "body");
    atomic_store(&fail_syncs, 5);
    for (int i = 0; i < 20; i++) store_submit(w.store, &c[i].op);
    int failed = 0;
    for (int i = 0; i < 20; i++) {
        await(&w, &c[i]);
        assert_true(c[i].op.err == 0 || c[i].op.err == WEIR_EUNAVAILABLE);
        failed += c[i].op.err != 0;
    }
    assert_in_range(failed, 1, 5);
    assert_int_equal(stats(&w).jobs[STORE_LEASED], 1 + 20 - failed);
    store_close(&w.store);
    world_open(&w);
    for (int i = 0; i < 20; i++) {
        int want = c[i].op.err == 0 ? STORE_LEASED : WEIR_ENOTFOUND;
        assert_int_equal(state_of(&w, 100 + (uint64_t)i), want);
        store_op_fini(&c[i].op);
    }
    assert_int_equal(state_of(&w, 2), STORE_DONE);
    store_close(&w.store);
    sqlite3_vfs_unregister(&shim);
    world_fini(&w);
}

/* Damage that the check at start does not find, as the file is too large for it, hits what is damaged alone.
 */
static void test_damage_read(void **state) {
    static char bytes[60000];
    struct world w;
    struct call c;
    int damaged = 0;
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    world_init(&w);
    world_open(&w);
    for (uint64_t n = 1; n <= 400; n++) {
        assert_int_equal(put(&w, n, true), 0);
        begin_finish(&c, n, 1, STORE_DONE);
        c.op.job.answer.body.bytes = (struct slice){bytes, sizeof bytes};
        assert_int_equal(run(&w, &c), 0);
        store_op_fini(&c.op);
    }
    store_close(&w.store);
    damage(&w, 12 << 20, 4096);
    world_open(&w);
    for (uint64_t n = 1; n <= 400; n++) {
        int is = state_of(&w, n);
        assert_true(is == STORE_DONE || is == WEIR_ECORRUPT);
        damaged += is == WEIR_ECORRUPT;
    }
    assert_int_equal(damaged, 1);
    assert_int_equal(put(&w, 1000, true), 0);
    assert_int_equal(finish(&w, 1000, 1, STORE_DONE), 0);
    world_fini(&w);
}

/* ---- out of memory ---- */

static void test_out_of_memory(void **state) {
    struct world w;
    struct call c;
    (void)state;
    world_init(&w);
    for (long n = 1;; n++) { /* opening */
        char *text = NULL;
        long live = fault_live();
        fault_fail_at(n);
        int err = try_open(&w, &text);
        fault_fail_at(0);
        if (err == 0) break;
        assert_int_equal(err, WEIR_ENOMEM);
        free(text);
        assert_int_equal(fault_live(), live);
    }
    assert_int_equal(subscribe(&w, "t", "a"), 0);
    for (long n = 1;; n++) { /* what has results, and changes something */
        assert_int_equal(put(&w, (uint64_t)n, false), 0);
        append(&w, "t", "x");
        long live = fault_live();
        begin_lease(&c, 10);
        fault_fail_at(n);
        int err = run(&w, &c);
        fault_fail_at(0);
        store_op_fini(&c.op);
        assert_int_equal(fault_live(), live);
        if (err == 0) break;
        assert_int_equal(err, WEIR_ENOMEM);
        assert_int_equal(stats(&w).jobs[STORE_QUEUED], n);
        assert_int_equal(c.op.count, 0);
    }
    assert_true(stats(&w).jobs[STORE_LEASED] > 0);
    for (long n = 1;; n++) {
        begin(&c, STORE_TOPIC_READ);
        c.op.topic = SLICE("t");
        c.op.name = SLICE("a");
        c.op.take = true;
        c.op.limit = c.op.most_bytes = 100;
        fault_fail_at(n);
        int err = run(&w, &c);
        fault_fail_at(0);
        store_op_fini(&c.op);
        if (err == 0) break;
        assert_int_equal(err, WEIR_ENOMEM);
        assert_true(stats(&w).messages > 0);
    }
    assert_int_equal(stats(&w).messages, 0);
    world_fini(&w);
}

/* ---- crashes ---- */

/* Keeps putting and finishing jobs, 50 at a time, and tells (on fd) what it has been told. */
static _Noreturn void work_until_killed(struct world *w, int fd) {
    static struct call c[50];
    world_open(w);
    for (uint64_t n = 1;; n += 50) {
        for (uint64_t i = 0; i < 50; i++) {
            begin_put(&c[i], n + i, true, "body");
            store_submit(w->store, &c[i].op);
        }
        for (uint64_t i = 0; i < 50; i++) {
            await(w, &c[i]);
            if (c[i].op.err != 0 || write(fd, &(uint64_t){n + i}, 8) != 8) _exit(1);
            begin_finish(&c[i], n + i, 1, STORE_DONE);
            if (i % 2) store_submit(w->store, &c[i].op);
        }
        for (uint64_t i = 1; i < 50; i += 2) {
            await(w, &c[i]);
            if (c[i].op.err != 0 || write(fd, &(uint64_t){(n + i) | UINT64_C(1) << 32}, 8) != 8) _exit(1);
        }
    }
}

static void test_killed(void **state) {
    struct world w;
    (void)state;
    for (int round = 0; round < 5; round++) {
        int fds[2], status;
        uint64_t told, n = 0;
        world_init(&w);
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) work_until_killed(&w, fds[1]);
        close(fds[1]);
        char *finished = calloc(1000000, 1);
        assert_non_null(finished);
        uint64_t last = 0;
        while (n < 2000 + 777 * (uint64_t)round) {
            assert_int_equal(read(fds[0], &told, 8), 8);
            n++;
            finished[told & 0xffffffff] |= told >> 32 ? 2 : 1;
            if ((told & 0xffffffff) > last) last = told & 0xffffffff;
        }
        kill(pid, SIGKILL);
        while (read(fds[0], &told, 8) == 8) {
            finished[told & 0xffffffff] |= told >> 32 ? 2 : 1;
            if ((told & 0xffffffff) > last) last = told & 0xffffffff;
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        close(fds[0]);
        world_open(&w);
        for (uint64_t i = 1; i <= last; i++) {
            int s = finished[i] ? state_of(&w, i) : 0;
            if (finished[i] & 2)
                assert_int_equal(s, STORE_DONE);
            else if (finished[i])
                assert_true(s == STORE_LEASED || s == STORE_DONE);
        }
        free(finished);
        world_fini(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed), /* forks: before there are threads */
        cmocka_unit_test(test_failing_disk),
        cmocka_unit_test(test_damage_read),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
