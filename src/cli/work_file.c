/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `weir work --builtin` knows: echo gives the request's body back; file serves what is below a directory
 * (RFC 9110: conditional requests 13, ranges 14). Paths are resolved by the kernel, which does not let them
 * leave the directory, by ".." or by a link (openat2(2), RESOLVE_BENEATH).
 */
#include "cli/work.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, PATH_MOST = 4096 };

int work_echo(weir_job *job, void *arg) {
    (void)arg;
    const char *type = weir_job_header(job, "content-type"), *length = weir_job_header(job, "content-length");
    char bytes[PIECE];
    int err = length ? weir_job_set_header(job, "content-length", length) : 0;
    if (err == 0) err = weir_reply_begin(job, 200, type ? type : "application/octet-stream");
    while (err == 0) {
        ptrdiff_t n = weir_job_body_read(job, bytes, sizeof bytes);
        if (n <= 0) return n < 0 ? (int)n : weir_reply_end(job);
        err = weir_reply_write(job, bytes, (size_t)n);
    }
    return err;
}

int work_file_prepare(struct work *w, const char *root) {
    w->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return w->root < 0 ? cli_fail(w->cli, CLI_FAILED, "cannot serve %s: %s", root, strerror(errno)) : -1;
}

/* ---- finding the file ---- */

static int open_beneath(int root, const char *path) {
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* The path below the root, decoded, without the service's name in front: 0 or WEIR_EINVAL. */
static int relative_path(weir_job *job, char to[PATH_MOST]) {
    struct slice path = slice_of(weir_job_path(job)), name = slice_of(weir_job_service(job));
    if (path.n == 0 || path.p[0] != '/' || path.n >= PATH_MOST - 16) return WEIR_EINVAL;
    bool named = path.n > name.n && memcmp(path.p + 1, name.p, name.n) == 0 &&
                 (path.n == name.n + 1 || path.p[name.n + 1] == '/');
    size_t skip = named ? name.n + 1 : 0;
    while (skip < path.n && path.p[skip] == '/') skip++;
    ptrdiff_t n = slice_percent_decode((struct slice){path.p + skip, path.n - skip}, false, to);
    if (n < 0 || memchr(to, '\0', (size_t)n)) return WEIR_EINVAL;
    to[n] = '\0';
    if (n == 0 || to[n - 1] == '/') strcpy(to + n, "index.html");
    return 0;
}

static const char *type_of(const char *path) {
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},
        {"json", "application/json"},
        {"xml", "application/xml"},
        {"pdf", "application/pdf"},
        {"wasm", "application/wasm"},
        {"zip", "application/zip"},
        {"gz", "application/gzip"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"svg", "image/svg+xml"},
        {"webp", "image/webp"},
        {"ico", "image/x-icon"},
        {"mp3", "audio/mpeg"},
        {"ogg", "audio/ogg"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
        {"woff2", "font/woff2"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcasecmp(dot + 1, types[i][0]) == 0) return types[i][1];
    return "application/octet-stream";
}

/* ---- conditions and ranges ---- */

struct file {
    int fd;
    struct stat st;
    char etag[64], modified[64];
    uint64_t first, size; /* of what is sent */
};

static void describe(struct file *f) {
    struct tm tm;
    snprintf(f->etag, sizeof f->etag, "\"%llx-%llx-%lx\"", (unsigned long long)f->st.st_ino,
             (unsigned long long)f->st.st_size,
             (unsigned long)f->st.st_mtim.tv_sec * 1000000000ul + (unsigned long)f->st.st_mtim.tv_nsec);
    gmtime_r(&f->st.st_mtim.tv_sec, &tm);
    strftime(f->modified, sizeof f->modified, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    f->first = 0;
    f->size = (uint64_t)f->st.st_size;
}

/* A list of entity tags has ours, compared weakly (RFC 9110 13.1.2). */
static bool has_tag(const char *list, const char *etag) {
    for (struct slice rest = slice_of(list); rest.p;) {
        struct slice tag = slice_next(&rest, ',');
        if (tag.n > 2 && memcmp(tag.p, "W/", 2) == 0) tag = (struct slice){tag.p + 2, tag.n - 2};
        if (slice_eq(tag, SLICE("*")) || slice_eq(tag, slice_of(etag))) return true;
    }
    return false;
}

static bool unchanged_since(const char *date, time_t modified) {
    struct tm tm = {0};
    const char *end = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end && *end == '\0' && modified <= timegm(&tm);
}

static bool not_modified(weir_job *job, const struct file *f) {
    const char *match = weir_job_header(job, "if-none-match"),
               *since = weir_job_header(job, "if-modified-since");
    if (match) return has_tag(match, f->etag);
    return since && unchanged_since(since, f->st.st_mtim.tv_sec);
}

/* One range of bytes; several, and other units, are answered with the whole (RFC 9110 14.2 allows it).
   Returns 200, 206 or 416. */
static unsigned apply_range(weir_job *job, struct file *f) {
    const char *range = weir_job_header(job, "range"), *only_if = weir_job_header(job, "if-range");
    uint64_t size = f->size, first, last;
    if (!range || strncmp(range, "bytes=", 6) != 0 || strcmp(weir_job_method(job), "GET") != 0) return 200;
    if (only_if && strcmp(only_if, f->etag) != 0 && strcmp(only_if, f->modified) != 0) return 200;
    struct slice to = slice_trim(slice_of(range + 6));
    const char *dash = to.n ? memchr(to.p, '-', to.n) : NULL;
    if (!dash) return 200;
    struct slice from = slice_trim((struct slice){to.p, (size_t)(dash - to.p)});
    to = slice_trim((struct slice){dash + 1, to.n - (size_t)(dash + 1 - to.p)});
    if (from.n == 0) { /* the last so many */
        if (!slice_u64(to, &last)) return 200;
        if (last == 0 || size == 0) return 416;
        first = last < size ? size - last : 0;
        last = size - 1;
    } else {
        last = UINT64_MAX;
        if (!slice_u64(from, &first) || (to.n && !slice_u64(to, &last)) || last < first) return 200;
        if (first >= size) return 416;
        if (last >= size) last = size - 1;
    }
    f->first = first;
    f->size = last - first + 1;
    return 206;
}

/* ---- the answer ---- */

static int send_file(weir_job *job, struct file *f) {
    char bytes[PIECE];
    uint64_t at = f->first, left = f->size;
    while (left > 0) {
        ssize_t n = pread(f->fd, bytes, left < PIECE ? (size_t)left : PIECE, (off_t)at);
        if (n <= 0) return WEIR_ECUT; /* it has become shorter */
        int err = weir_reply_write(job, bytes, (size_t)n);
        if (err != 0) return err;
        at += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return weir_reply_end(job);
}

static int put_range(weir_job *job, const struct file *f, unsigned status) {
    char text[96];
    unsigned long long all = (unsigned long long)f->st.st_size;
    if (status == 416)
        snprintf(text, sizeof text, "bytes */%llu", all);
    else
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)f->first,
                 (unsigned long long)(f->first + f->size - 1), all);
    return weir_job_set_header(job, "content-range", text);
}

static int reply_file(weir_job *job, struct file *f, const char *path) {
    describe(f);
    int err = weir_job_set_header(job, "etag", f->etag);
    if (err == 0) err = weir_job_set_header(job, "last-modified", f->modified);
    if (err == 0) err = weir_job_set_header(job, "accept-ranges", "bytes");
    if (err == 0 && not_modified(job, f)) return weir_reply(job, 304, NULL, NULL, 0);
    unsigned status = apply_range(job, f);
    if (err == 0 && status != 200) err = put_range(job, f, status);
    if (err != 0) return err;
    if (status == 416)
        return weir_reply_problem(job, 416, "the file has %lld bytes", (long long)f->st.st_size);
    char length[24];
    snprintf(length, sizeof length, "%llu", (unsigned long long)f->size);
    err = weir_job_set_header(job, "content-length", length);
    if (err == 0) err = weir_reply_begin(job, status, type_of(path));
    if (err != 0 || strcmp(weir_job_method(job), "HEAD") == 0) return err ? err : weir_reply_end(job);
    return send_file(job, f);
}

static int reply_unopened(weir_job *job, int error) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return weir_reply_problem(job, 404, "there is no such file");
    case EXDEV: /* out of the root */
    case ELOOP:
    case EACCES:
    case EPERM:
        return weir_reply_problem(job, 403, "this file is not served");
    default:
        return weir_reply_problem(job, 500, "cannot open the file: %s", strerror(error));
    }
}

int work_file(weir_job *job, void *arg) {
    const struct work *w = arg;
    const char *method = weir_job_method(job);
    char path[PATH_MOST];
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        (void)weir_job_set_header(job, "allow", "GET, HEAD");
        return weir_reply_problem(job, 405, "files are read with GET or HEAD, not %s", method);
    }
    if (relative_path(job, path) != 0) return weir_reply_problem(job, 400, "the path cannot be");
    struct file f = {.fd = open_beneath(w->root, path)};
    if (f.fd < 0) return reply_unopened(job, errno);
    int err;
    if (fstat(f.fd, &f.st) != 0)
        err = reply_unopened(job, errno);
    else if (S_ISREG(f.st.st_mode))
        err = reply_file(job, &f, path);
    else if (S_ISDIR(f.st.st_mode))
        err =
            weir_reply_problem(job, 404, "this is a directory; its index.html is at %s/", weir_job_path(job));
    else
        err = weir_reply_problem(job, 403, "this file is not served");
    close(f.fd);
    return err;
}
