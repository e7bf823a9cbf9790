/* SPDX-License-Identifier: Apache-2.0 */
#include "store/blob.h"
#include "base/assert.h"
#include "base/buffer.h"
#include "base/list.h"
#include "weir/weir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 1024, NAME = 24, NAME_DIGITS = 16, DIRECTORY_DIGITS = 2 };

enum state {
    OPEN,
    CLOSED,
    BROKEN, /* its fsync has failed: what of it is on the disk, nobody knows */
    KEPT    /* in memory: referred to */
};

struct blob {
    struct list link, taken; /* in a bucket; in blobs.taken */
    uint64_t id, size;
    int fd; /* -1 unless it is open */
    enum state state;
    struct buffer bytes; /* in memory */
};

struct released {
    struct list link;
    uint64_t id, size;
};

struct blobs {
    pthread_mutex_t lock; /* all below */
    int dir;              /* DIR/blobs; -1: in memory */
    uint64_t last, count, bytes;
    struct list buckets[BUCKETS];
    struct list taken;    /* by the present transaction */
    struct list released; /* by the present transaction */
    struct list dead;     /* released and committed */
};

/* ---- names ---- */

/* "3f/000000000000013f" */
static void name_of(uint64_t id, char name[NAME]) {
    snprintf(name, NAME, "%02x/%016llx", (unsigned)(id & 0xff), (unsigned long long)id);
}

static int error_of(int number) {
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return WEIR_ENOSPACE;
    case ENOMEM:
        return WEIR_ENOMEM;
    case ENOENT:
        return WEIR_ENOTFOUND;
    default:
        return WEIR_EUNAVAILABLE;
    }
}

/* ---- those that are known ---- */

static struct blob *find(struct blobs *b, uint64_t id) {
    LIST_FOR (node, &b->buckets[id % BUCKETS]) {
        struct blob *blob = CONTAINER_OF(node, struct blob, link);
        if (blob->id == id) return blob;
    }
    return NULL;
}

/* One that is being written is the blob thread's alone: the other one takes only what is closed. */
static int find_open(struct blobs *b, uint64_t id, struct blob **ret) {
    pthread_mutex_lock(&b->lock);
    struct blob *blob = find(b, id);
    int err = !blob                   ? WEIR_ENOTFOUND
              : blob->state == BROKEN ? WEIR_EUNAVAILABLE
              : blob->state != OPEN   ? WEIR_ESTATE
                                      : 0;
    pthread_mutex_unlock(&b->lock);
    if (err == 0) *ret = blob;
    return err;
}

static void set_state(struct blobs *b, struct blob *blob, enum state state) {
    pthread_mutex_lock(&b->lock);
    blob->state = state;
    pthread_mutex_unlock(&b->lock);
}

static void blob_free(struct blob *blob) {
    list_del(&blob->link);
    list_del(&blob->taken);
    if (blob->fd >= 0) close(blob->fd);
    buffer_fini(&blob->bytes);
    free(blob);
}

/* ---- life ---- */

static int open_dir(struct blobs *b, const char *dir) {
    char *path;
    if (asprintf(&path, "%s/blobs", dir) < 0) return WEIR_ENOMEM;
    bool made = mkdir(path, 0700) == 0;
    if (made || errno == EEXIST) b->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(path);
    if (b->dir < 0) return error_of(errno);
    /* Also those that were there: who made them may have been killed before they were synced. */
    int parent = openat(b->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = parent < 0 || fsync(parent) != 0 || fsync(b->dir) != 0 ? error_of(errno) : 0;
    if (parent >= 0) close(parent);
    if (err != 0) close(b->dir);
    return err;
}

int blobs_open(const char *dir, uint64_t last, uint64_t count, uint64_t bytes, struct blobs **ret) {
    struct blobs *b = malloc(sizeof *b);
    if (!b) return WEIR_ENOMEM;
    *b = (struct blobs){.dir = -1, .last = last, .count = count, .bytes = bytes};
    int err = dir ? open_dir(b, dir) : 0;
    if (err != 0) {
        free(b);
        return err;
    }
    pthread_mutex_init(&b->lock, NULL);
    for (unsigned i = 0; i < BUCKETS; i++) list_init(&b->buckets[i]);
    list_init(&b->taken);
    list_init(&b->released);
    list_init(&b->dead);
    *ret = b;
    return 0;
}

void blobs_free(struct blobs *b) {
    if (!b) return;
    blobs_rollback(b);
    blobs_reap(b);
    for (unsigned i = 0; i < BUCKETS; i++)
        LIST_FOR (node, &b->buckets[i]) blob_free(CONTAINER_OF(node, struct blob, link));
    if (b->dir >= 0) close(b->dir);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* One of the 256 directories. */
static int clean_dir(int fd, int (*wanted)(void *ctx, uint64_t id), void *ctx) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int err = error_of(errno);
        close(fd);
        return err;
    }
    int err = 0;
    for (struct dirent *entry; err == 0 && (entry = readdir(dir));) {
        uint64_t id;
        if (strlen(entry->d_name) != NAME_DIGITS || !slice_hex(slice_of(entry->d_name), &id)) continue;
        int r = wanted(ctx, id);
        if (r < 0) err = r;
        if (r == 0 && unlinkat(dirfd(dir), entry->d_name, 0) != 0) err = error_of(errno);
    }
    closedir(dir);
    return err;
}

int blobs_clean(struct blobs *b, int (*wanted)(void *ctx, uint64_t id), void *ctx) {
    if (b->dir < 0) return 0;
    for (unsigned i = 0; i < 256; i++) {
        char name[NAME];
        snprintf(name, sizeof name, "%02x", i);
        int fd = openat(b->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) continue;
        int err = fd < 0 ? error_of(errno) : clean_dir(fd, wanted, ctx);
        if (err != 0) return err;
    }
    return 0;
}

void blobs_stats(struct blobs *b, uint64_t *ret_count, uint64_t *ret_bytes) {
    pthread_mutex_lock(&b->lock);
    *ret_count = b->count;
    *ret_bytes = b->bytes;
    pthread_mutex_unlock(&b->lock);
}

/* ---- the blob thread ---- */

static int open_new(struct blobs *b, uint64_t id, int *ret_fd) {
    enum { FLAGS = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC };
    char name[NAME];
    name_of(id, name);
    int fd = openat(b->dir, name, FLAGS, 0600);
    if (fd < 0 && errno == ENOENT) {
        name[DIRECTORY_DIGITS] = '\0';
        if (mkdirat(b->dir, name, 0700) != 0) return error_of(errno);
        if (fsync(b->dir) != 0) {
            int number = errno;
            (void)unlinkat(b->dir, name, AT_REMOVEDIR); /* the next one makes it, and syncs it */
            return error_of(number);
        }
        name[DIRECTORY_DIGITS] = '/';
        fd = openat(b->dir, name, FLAGS, 0600);
    }
    if (fd < 0) return errno == ENOENT ? WEIR_EUNAVAILABLE : error_of(errno);
    *ret_fd = fd;
    return 0;
}

int blobs_new(struct blobs *b, uint64_t *ret_id) {
    struct blob *blob = malloc(sizeof *blob);
    if (!blob) return WEIR_ENOMEM;
    *blob = (struct blob){.fd = -1, .state = OPEN, .id = ++b->last}; /* whatever becomes of it */
    list_init(&blob->taken);
    int err = b->dir < 0 ? 0 : open_new(b, blob->id, &blob->fd);
    if (err != 0) {
        free(blob);
        return err;
    }
    *ret_id = blob->id;
    pthread_mutex_lock(&b->lock);
    list_push_back(&b->buckets[blob->id % BUCKETS], &blob->link);
    b->count++;
    pthread_mutex_unlock(&b->lock);
    return 0;
}

/* All of it or, on an error, nothing. */
static int append(struct blobs *b, struct blob *blob, struct slice bytes) {
    if (blob->fd < 0) return buffer_append_slice(&blob->bytes, bytes);
    for (size_t at = 0; at < bytes.n;) {
        ssize_t n = pwrite(blob->fd, bytes.p + at, bytes.n - at, (off_t)(blob->size + at));
        if (n > 0) {
            at += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            int err = n == 0 ? WEIR_EUNAVAILABLE : error_of(errno);
            if (ftruncate(blob->fd, (off_t)blob->size) != 0) set_state(b, blob, BROKEN);
            return err;
        }
    }
    return 0;
}

int blobs_write(struct blobs *b, uint64_t id, struct slice bytes) {
    struct blob *blob;
    int err = find_open(b, id, &blob);
    if (err == 0) err = append(b, blob, bytes);
    if (err != 0) return err;
    blob->size += bytes.n;
    pthread_mutex_lock(&b->lock);
    b->bytes += bytes.n;
    pthread_mutex_unlock(&b->lock);
    return 0;
}

/* The file and its name. After a failed fsync a second one may succeed although the bytes are lost: there is
   no second one. */
static int make_durable(struct blobs *b, const struct blob *blob) {
    char name[NAME];
    name_of(blob->id, name);
    name[DIRECTORY_DIGITS] = '\0';
    if (fsync(blob->fd) != 0) return error_of(errno);
    int dir = openat(b->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return WEIR_EUNAVAILABLE;
    int err = fsync(dir) == 0 ? 0 : error_of(errno);
    close(dir);
    return err;
}

int blobs_close(struct blobs *b, uint64_t id) {
    struct blob *blob;
    int err = find_open(b, id, &blob);
    if (err != 0) return err;
    if (blob->fd >= 0) {
        err = make_durable(b, blob);
        close(blob->fd);
        blob->fd = -1;
    }
    set_state(b, blob, err == 0 ? CLOSED : BROKEN);
    return err;
}

static int read_memory(struct blobs *b, uint64_t id, uint64_t after, uint64_t limit, struct arena *memory,
                       struct slice *ret) {
    pthread_mutex_lock(&b->lock);
    struct blob *blob = find(b, id);
    struct slice bytes = {"", 0};
    if (blob && after < blob->size) {
        bytes = (struct slice){buffer_slice(&blob->bytes).p + after, (size_t)(blob->size - after)};
        if (bytes.n > limit) bytes.n = (size_t)limit;
        bytes = arena_copy(memory, bytes);
    }
    pthread_mutex_unlock(&b->lock);
    if (!blob) return WEIR_ENOTFOUND;
    if (!bytes.p) return WEIR_ENOMEM;
    *ret = bytes;
    return 0;
}

static int read_file(int fd, uint64_t after, uint64_t limit, struct arena *memory, struct slice *ret) {
    struct stat st;
    if (fstat(fd, &st) != 0) return error_of(errno);
    uint64_t size = (uint64_t)st.st_size, left = after < size ? size - after : 0;
    size_t want = (size_t)(left < limit ? left : limit), got = 0;
    char *bytes = arena_bytes(memory, want);
    if (!bytes) return WEIR_ENOMEM;
    while (got < want) {
        ssize_t n = pread(fd, bytes + got, want - got, (off_t)(after + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_of(errno);
        if (n == 0) break;
        got += (size_t)n;
    }
    *ret = (struct slice){bytes, got};
    return 0;
}

int blobs_read(struct blobs *b, uint64_t id, uint64_t after, uint64_t limit, struct arena *memory,
               struct slice *ret) {
    if (b->dir < 0) return read_memory(b, id, after, limit, memory, ret);
    char name[NAME];
    name_of(id, name);
    int fd = openat(b->dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_of(errno);
    int err = read_file(fd, after, limit, memory, ret);
    close(fd);
    return err;
}

static int remove_file(struct blobs *b, uint64_t id) {
    char name[NAME];
    name_of(id, name);
    return b->dir < 0 || unlinkat(b->dir, name, 0) == 0 || errno == ENOENT ? 0 : error_of(errno);
}

int blobs_drop(struct blobs *b, uint64_t id) {
    pthread_mutex_lock(&b->lock);
    struct blob *blob = find(b, id);
    int err = !blob || blob->state == KEPT ? WEIR_ENOTFOUND : list_empty(&blob->taken) ? 0 : WEIR_ESTATE;
    if (err == 0) {
        b->count--;
        b->bytes -= blob->size;
        blob_free(blob);
    }
    pthread_mutex_unlock(&b->lock);
    if (err == 0) remove_file(b, id); /* what is left of it goes at the next start */
    return err;
}

bool blobs_reap(struct blobs *b) {
    struct list dead;
    list_init(&dead);
    pthread_mutex_lock(&b->lock);
    list_splice_back(&dead, &b->dead);
    pthread_mutex_unlock(&b->lock);
    bool any = !list_empty(&dead);
    LIST_FOR (node, &dead) {
        struct released *r = CONTAINER_OF(node, struct released, link);
        remove_file(b, r->id);
        free(r);
    }
    return any;
}

/* ---- the transaction's thread ---- */

int blobs_take(struct blobs *b, uint64_t id, uint64_t *ret_size) {
    pthread_mutex_lock(&b->lock);
    struct blob *blob = find(b, id);
    bool loose = blob && blob->state != KEPT && list_empty(&blob->taken);
    int err = !loose ? WEIR_ENOTFOUND : blob->state == CLOSED ? 0 : WEIR_ESTATE;
    if (err == 0) {
        list_push_back(&b->taken, &blob->taken);
        *ret_size = blob->size;
    }
    pthread_mutex_unlock(&b->lock);
    return err;
}

void blobs_give_back(struct blobs *b, uint64_t id) {
    pthread_mutex_lock(&b->lock);
    struct blob *blob = find(b, id);
    if (blob) list_del(&blob->taken);
    pthread_mutex_unlock(&b->lock);
}

int blobs_release(struct blobs *b, uint64_t id, uint64_t size) {
    struct released *r = malloc(sizeof *r);
    if (!r) return WEIR_ENOMEM;
    *r = (struct released){.id = id, .size = size};
    list_push_back(&b->released, &r->link); /* the transaction's thread alone looks at it */
    return 0;
}

bool blobs_commit(struct blobs *b) {
    if (list_empty(&b->taken) && list_empty(&b->released)) return false;
    pthread_mutex_lock(&b->lock);
    for (struct list *node; (node = list_pop_front(&b->taken));) {
        struct blob *blob = CONTAINER_OF(node, struct blob, taken);
        blob->state = KEPT;
        if (b->dir >= 0) blob_free(blob); /* from now on the database knows it */
    }
    LIST_FOR (node, &b->released) {
        struct released *r = CONTAINER_OF(node, struct released, link);
        struct blob *blob = find(b, r->id);
        if (blob) blob_free(blob);
        b->count--;
        b->bytes -= r->size;
    }
    list_splice_back(&b->dead, &b->released);
    bool any = !list_empty(&b->dead);
    pthread_mutex_unlock(&b->lock);
    return any;
}

void blobs_rollback(struct blobs *b) {
    pthread_mutex_lock(&b->lock);
    while (list_pop_front(&b->taken)) {
    }
    pthread_mutex_unlock(&b->lock);
    for (struct list *node; (node = list_pop_front(&b->released));)
        free(CONTAINER_OF(node, struct released, link));
}
