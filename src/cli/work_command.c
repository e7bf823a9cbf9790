/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process for each job, in a process group of its own: the request's body on stdin, its head in CGI
 * variables (RFC 3875 4.1), the answer from stdout, with or without a CGI header block (6.2), stderr in the
 * log.
 *
 * What the command prints first is held back, up to 64 KiB, until it has ended: then its exit status can
 * still make a 500 of it. A handler's thread runs one poll loop over the process's pipes and the job.
 */
#include "base/buffer.h"
#include "base/clock.h"
#include "cli/work.h"
#include "wire/head.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD_MOST = 64 * 1024, PIECE = 64 * 1024, TAIL_MOST = 1024, LINE_MOST = 512 };

struct process {
    struct work *work;
    weir_job *job;
    pid_t pid;
    int in, out, err, exited; /* our ends of its pipes, and its pidfd; -1: closed */
    struct buffer feed;       /* read from the request, not yet written to it */
    struct buffer held;       /* its output before the reply has begun */
    struct buffer line;       /* of stderr */
    char tail[TAIL_MOST + 1]; /* of stderr */
    size_t tail_size;
    bool body_over, cancelled, begun, ended, bad_header;
    int write_error; /* of the reply */
    uint64_t kill_at_ms;
    int status;
};

/* ---- starting it ---- */

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int work_command_prepare(struct work *w) {
    const char *name = w->command[0], *path = getenv("PATH");
    if (strchr(name, '/')) {
        if (!is_program(name))
            return cli_fail(w->cli, CLI_FAILED, "%s is not a program that can be run", name);
        w->program = strdup(name);
        return w->program ? -1 : CLI_FAILED;
    }
    for (struct slice rest = slice_of(path ? path : "/usr/local/bin:/usr/bin:/bin"); rest.p;) {
        struct slice directory = slice_next(&rest, ':');
        if (asprintf(&w->program, "%.*s/%s", SLICE_ARG(directory), name) < 0) return CLI_FAILED;
        if (is_program(w->program)) return -1;
        free(w->program);
        w->program = NULL;
    }
    return cli_fail(w->cli, CLI_FAILED, "there is no command %s on the PATH", name);
}

/* NAME=VALUE strings, one after the other, each ending with a NUL. */
static int put(struct buffer *b, const char *name, struct slice value) {
    return buffer_printf(b, "%s=%.*s", name, SLICE_ARG(value)) || buffer_append(b, "", 1);
}

/* Host: name[:port] as SERVER_NAME and SERVER_PORT. */
static int put_server(struct buffer *b, const char *host) {
    struct slice name = slice_of(host ? host : "localhost"), port = SLICE("80");
    const char *colon = name.n ? memrchr(name.p, ':', name.n) : NULL;
    if (colon && !memchr(colon, ']', name.n - (size_t)(colon - name.p))) {
        port = (struct slice){colon + 1, name.n - (size_t)(colon + 1 - name.p)};
        name.n = (size_t)(colon - name.p);
    }
    return put(b, "SERVER_NAME", name) || put(b, "SERVER_PORT", port);
}

static int put_path(struct buffer *b, weir_job *job) {
    struct slice target = slice_of(weir_job_target(job)), path = slice_of(weir_job_path(job)),
                 query = {"", 0};
    if (target.n > path.n) query = (struct slice){target.p + path.n + 1, target.n - path.n - 1};
    char *decoded = malloc(path.n + 1);
    ptrdiff_t n = decoded ? slice_percent_decode(path, false, decoded) : -1;
    if (n >= 0 && memchr(decoded, '\0', (size_t)n)) n = -1; /* what cannot be decoded is given as it is */
    struct slice info = n >= 0 ? (struct slice){decoded, (size_t)n} : path;
    int err = put(b, "PATH_INFO", info) || put(b, "QUERY_STRING", query) || put(b, "REQUEST_URI", target) ||
              put(b, "SCRIPT_NAME", SLICE(""));
    free(decoded);
    return err;
}

/* A header field as HTTP_NAME. Proxy is left out: HTTP_PROXY means something else to many programs. */
static int put_field(struct buffer *b, const char *name, const char *value) {
    char variable[128] = "HTTP_";
    size_t n = strlen(name);
    if (strcmp(name, "content-type") == 0) return put(b, "CONTENT_TYPE", slice_of(value));
    if (strcmp(name, "content-length") == 0) return put(b, "CONTENT_LENGTH", slice_of(value));
    if (strcmp(name, "proxy") == 0 || strcmp(name, "authorization") == 0 || n > sizeof variable - 6) return 0;
    bool ours = strncmp(name, "weir-", 5) == 0;
    char *at = ours ? variable : variable + 5;
    for (size_t i = 0; i <= n; i++) at[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
    return put(b, variable, slice_of(value));
}

static int put_variables(struct buffer *b, weir_job *job) {
    const char *name, *value, *peer = weir_job_header(job, "x-forwarded-for");
    int err = put(b, "GATEWAY_INTERFACE", SLICE("CGI/1.1")) || put(b, "SERVER_PROTOCOL", SLICE("HTTP/1.1")) ||
              put(b, "SERVER_SOFTWARE", SLICE("weir/" WEIR_VERSION)) ||
              put(b, "REQUEST_METHOD", slice_of(weir_job_method(job))) ||
              put(b, "REMOTE_ADDR", slice_of(peer ? peer : "")) || put_path(b, job) ||
              put_server(b, weir_job_header(job, "host"));
    for (size_t i = 0; !err && weir_job_header_at(job, i, &name, &value) == 0; i++)
        err = put_field(b, name, value);
    return err;
}

extern char **environ;

/* Our environment, and the job's variables in text. */
static char **make_environment(struct buffer *text) {
    size_t count = 0, inherited = 0;
    struct slice all = buffer_slice(text);
    for (size_t i = 0; i < all.n; i++) count += all.p[i] == '\0';
    while (environ[inherited]) inherited++;
    char **list = calloc(inherited + count + 1, sizeof *list), **at = list;
    if (!list) return NULL;
    for (size_t i = 0; i < inherited; i++)
        if (strncmp(environ[i], "HTTP_", 5) != 0 && strncmp(environ[i], "WEIR_", 5) != 0) *at++ = environ[i];
    for (const char *p = all.p; p < all.p + all.n; p += strlen(p) + 1) *at++ = (char *)(uintptr_t)p;
    return list;
}

/* In the new process: only what is safe after fork in a program with threads (signal-safety(7)). */
static void become(const struct work *w, pid_t parent, const int fds[3], char **environment) {
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0) _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(w->program, w->command, environment);
    static const char failed[] = "weir work: the command could not be run\n";
    if (write(STDERR_FILENO, failed, sizeof failed - 1) < 0) _exit(126);
    _exit(127);
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Pipes: ends[0] what the process reads or writes, ends[1] ours. */
static bool make_pipes(int ends[3][2]) {
    for (int i = 0; i < 3; i++) ends[i][0] = ends[i][1] = -1;
    for (int i = 0; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) != 0) return false;
        ends[i][0] = fds[i == 0 ? 0 : 1];
        ends[i][1] = fds[i == 0 ? 1 : 0];
        fcntl(ends[i][1], F_SETFL, O_NONBLOCK);
    }
    return true;
}

static int start(struct process *p) {
    struct buffer text;
    int ends[3][2], err = WEIR_EIO;
    char **environment = NULL;
    buffer_init(&text);
    if (make_pipes(ends) && put_variables(&text, p->job) == 0 && (environment = make_environment(&text))) {
        const int theirs[3] = {ends[0][0], ends[1][0], ends[2][0]};
        pid_t us = getpid();
        p->pid = fork();
        if (p->pid == 0) become(p->work, us, theirs, environment);
        if (p->pid > 0) {
            setpgid(p->pid, p->pid); /* so that it is there for a kill at once */
            p->exited = (int)syscall(SYS_pidfd_open, p->pid, 0);
            err = 0;
        }
    }
    free(environment);
    buffer_fini(&text);
    for (int i = 0; i < 3; i++) close_fd(&ends[i][0]);
    p->in = ends[0][1];
    p->out = ends[1][1];
    p->err = ends[2][1];
    return err;
}

/* ---- its output ---- */

/* The size of a CGI header block with its empty line; 0: there is none (yet). */
static size_t header_size(struct slice s) {
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] != '\n') continue;
        if (s.p[i + 1] == '\n') return i + 2;
        if (s.p[i + 1] == '\r' && i + 2 < s.n && s.p[i + 2] == '\n') return i + 3;
    }
    return 0;
}

/* RFC 3875 6.3: a response begins with one of these fields; so does ours, which may forward. */
static bool looks_like_header(struct slice s) {
    static const struct slice names[] = {
        {"content-type:", 13}, {"status:", 7}, {"location:", 9}, {"weir-", 5}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (s.n >= names[i].n && slice_eq_nocase((struct slice){s.p, names[i].n}, names[i])) return true;
    return false;
}

static bool take_header_line(struct process *p, struct slice line, unsigned *status) {
    char name[128], value[8192];
    const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
    if (!colon) return false;
    struct slice n = {line.p, (size_t)(colon - line.p)};
    struct slice v = slice_trim((struct slice){colon + 1, line.n - n.n - 1});
    if (n.n >= sizeof name || v.n >= sizeof value) return false;
    memcpy(name, n.p, n.n);
    memcpy(value, v.p, v.n);
    name[n.n] = value[v.n] = '\0';
    if (slice_eq_nocase(n, SLICE("status"))) {
        uint64_t code;
        if (v.n < 3 || !slice_u64((struct slice){v.p, 3}, &code) || code < 200) return false;
        *status = (unsigned)code;
        return true;
    }
    if (slice_eq_nocase(n, SLICE("location")) && *status == 0) *status = 302;
    /* Framing is ours. */
    if (slice_eq_nocase(n, SLICE("content-length")) || slice_eq_nocase(n, SLICE("connection"))) return true;
    return weir_job_set_header(p->job, name, value) == 0;
}

/* Takes the header block off what is held, if there is one. *ret_type: NULL when it was given there. */
static unsigned take_header(struct process *p, const char **ret_type) {
    struct slice s = buffer_slice(&p->held);
    enum work_output output = p->work->output;
    unsigned status = 0;
    *ret_type = p->work->content_type;
    if (output == WORK_PLAIN || (output == WORK_AUTO && !looks_like_header(s))) return 200;
    *ret_type = NULL;
    size_t size = header_size(s);
    struct slice head = {s.p, size};
    p->bad_header = size == 0;
    while (head.n > 0 && !p->bad_header) {
        const char *end = memchr(head.p, '\n', head.n);
        struct slice line = {head.p, end ? (size_t)(end - head.p) : head.n};
        head = (struct slice){line.p + line.n + 1, head.n - line.n - 1};
        if (line.n && line.p[line.n - 1] == '\r') line.n--;
        if (line.n && !take_header_line(p, line, &status)) p->bad_header = true;
    }
    buffer_consume(&p->held, size);
    return status ? status : 200;
}

static void begin_reply(struct process *p) {
    const char *type;
    unsigned status = take_header(p, &type);
    if (p->bad_header) return;
    p->begun = true;
    struct slice s = buffer_slice(&p->held);
    p->write_error = weir_reply_begin(p->job, status, type);
    if (p->write_error == 0) p->write_error = weir_reply_write(p->job, s.p, s.n);
    buffer_reset(&p->held);
}

static void take_output(struct process *p, const char *bytes, size_t n) {
    if (p->cancelled || p->bad_header || p->write_error) return;
    if (p->begun) {
        p->write_error = weir_reply_write(p->job, bytes, n);
        return;
    }
    p->write_error = buffer_append(&p->held, bytes, n);
    struct slice held = buffer_slice(&p->held);
    bool header_there = !looks_like_header(held) || header_size(held) > 0;
    if (held.n >= HELD_MOST || (p->work->stream && header_there)) begin_reply(p);
}

static void log_lines(struct process *p, bool all) {
    for (;;) {
        struct slice s = buffer_slice(&p->line);
        const char *end = s.n ? memchr(s.p, '\n', s.n) : NULL;
        size_t n = end ? (size_t)(end - s.p) : s.n;
        if (s.n == 0 || (!end && !all && s.n < LINE_MOST)) return;
        if (n > 0)
            work_log(p->work, LOG_INFO, "stderr", "[%s] %s: %.*s", work_request_id(p->job),
                     p->work->command[0], (int)(n < LINE_MOST ? n : LINE_MOST), s.p);
        buffer_consume(&p->line, end ? n + 1 : n);
    }
}

static void take_stderr(struct process *p, const char *bytes, size_t n) {
    if (buffer_append(&p->line, bytes, n) == 0) log_lines(p, false);
    if (n > TAIL_MOST) {
        bytes += n - TAIL_MOST;
        n = TAIL_MOST;
    }
    size_t keep = p->tail_size < TAIL_MOST - n ? p->tail_size : TAIL_MOST - n;
    memmove(p->tail, p->tail + p->tail_size - keep, keep);
    memcpy(p->tail + keep, bytes, n);
    p->tail_size = keep + n;
}

/* Reads what is there, at most one piece unless all; false when there was nothing. */
static bool read_pipe(struct process *p, int *fd, void (*taken)(struct process *, const char *, size_t)) {
    char bytes[PIECE];
    ssize_t n = *fd >= 0 ? read(*fd, bytes, sizeof bytes) : -1;
    if (n > 0) taken(p, bytes, (size_t)n);
    if (n == 0 || (n < 0 && *fd >= 0 && errno != EAGAIN && errno != EINTR)) close_fd(fd);
    return n > 0;
}

/* ---- its input, and its end ---- */

static void cancel(struct process *p) {
    if (p->cancelled) return;
    p->cancelled = true;
    p->kill_at_ms = clock_mono_ms() + p->work->kill_after_ms;
    close_fd(&p->in);
    if (!p->ended) kill(-p->pid, SIGTERM);
}

/* Moves the request's body on to stdin. */
static void feed(struct process *p) {
    while (!p->cancelled) {
        struct slice s = buffer_slice(&p->feed);
        if (s.n > 0 && p->in >= 0) {
            ssize_t n = write(p->in, s.p, s.n);
            if (n > 0) buffer_consume(&p->feed, (size_t)n);
            if (n < 0 && errno == EAGAIN) return;
            if (n < 0 && errno != EINTR) close_fd(&p->in); /* it reads no more: the rest is dropped */
            continue;
        }
        buffer_reset(&p->feed);
        if (p->body_over) {
            close_fd(&p->in);
            return;
        }
        char *room = buffer_reserve(&p->feed, PIECE);
        ptrdiff_t n = room ? weir_job_body_poll(p->job, room, PIECE) : WEIR_ENOMEM;
        if (n == WEIR_EAGAIN) return;
        if (n < 0) cancel(p);
        if (n == 0) p->body_over = true;
        if (n > 0) buffer_commit(&p->feed, (size_t)n);
    }
}

static void reap(struct process *p) {
    if (waitpid(p->pid, &p->status, WNOHANG) != p->pid) return;
    p->ended = true;
    if (p->cancelled) kill(-p->pid, SIGKILL); /* what it has left behind */
}

static int timeout(struct process *p) {
    if (p->cancelled && p->kill_at_ms != UINT64_MAX) {
        uint64_t now = clock_mono_ms();
        if (now < p->kill_at_ms) return (int)(p->kill_at_ms - now);
        kill(-p->pid, SIGKILL);
        p->kill_at_ms = UINT64_MAX;
    }
    return p->exited >= 0 ? -1 : 20; /* without a pidfd its end is looked for */
}

static void run(struct process *p) {
    int job = weir_job_fd(p->job);
    feed(p);
    while (!p->ended) {
        bool wants = p->in >= 0 && buffer_size(&p->feed) > 0;
        struct pollfd fds[] = {
            {.fd = p->cancelled || wants ? -1 : job, .events = POLLIN},
            {.fd = wants ? p->in : -1, .events = POLLOUT},
            {.fd = p->out, .events = POLLIN},
            {.fd = p->err, .events = POLLIN},
            {.fd = p->exited, .events = POLLIN},
        };
        int ms = timeout(p);
        if (wants && (ms < 0 || ms > 50))
            ms = 50; /* the job's descriptor is full of body: look for a cancel */
        if (poll(fds, 5, ms) < 0 && errno != EINTR) break;
        if (weir_job_cancelled(p->job) || p->write_error) cancel(p);
        feed(p);
        if (fds[2].revents) (void)read_pipe(p, &p->out, take_output);
        if (fds[3].revents) (void)read_pipe(p, &p->err, take_stderr);
        if (fds[4].revents || p->exited < 0) reap(p);
    }
    while (read_pipe(p, &p->err, take_stderr)) continue;
    while (read_pipe(p, &p->out, take_output)) continue;
    log_lines(p, true);
}

static int reply_failed(struct process *p) {
    const char *name = p->work->command[0];
    while (p->tail_size > 0 && isspace((unsigned char)p->tail[p->tail_size - 1])) p->tail_size--;
    p->tail[p->tail_size] = '\0';
    if (WIFSIGNALED(p->status))
        return weir_reply_problem(p->job, 500, "%s was ended by signal %d%s%s", name, WTERMSIG(p->status),
                                  p->tail_size ? ": " : "", p->tail);
    return weir_reply_problem(p->job, 500, "%s ended with status %d%s%s", name, WEXITSTATUS(p->status),
                              p->tail_size ? ": " : "", p->tail);
}

static int answer(struct process *p) {
    bool failed = !WIFEXITED(p->status) || WEXITSTATUS(p->status) != 0;
    if (p->cancelled) return WEIR_ECANCELLED;
    if (failed)
        work_log(p->work, LOG_WARN, "command-failed", "[%s] %s: wait status %d", work_request_id(p->job),
                 p->work->command[0], p->status);
    if (p->begun) return failed || p->write_error ? WEIR_ECUT : weir_reply_end(p->job);
    if (failed) return reply_failed(p);
    const char *type;
    unsigned status = take_header(p, &type);
    if (p->bad_header)
        return weir_reply_problem(p->job, 502, "the output of %s does not begin with a good CGI header",
                                  p->work->command[0]);
    struct slice s = buffer_slice(&p->held);
    return weir_reply(p->job, status, s.n || type != p->work->content_type ? type : NULL, s.p, s.n);
}

int work_command(weir_job *job, void *arg) {
    struct process p = {.work = arg, .job = job, .in = -1, .out = -1, .err = -1, .exited = -1};
    buffer_init(&p.feed);
    buffer_init(&p.held);
    buffer_init(&p.line);
    int err = start(&p);
    if (err == 0) {
        run(&p);
        err = answer(&p);
    } else {
        err = weir_reply_problem(job, 503, "no process could be started: %s", strerror(errno));
    }
    close_fd(&p.in);
    close_fd(&p.out);
    close_fd(&p.err);
    close_fd(&p.exited);
    buffer_fini(&p.feed);
    buffer_fini(&p.held);
    buffer_fini(&p.line);
    return err;
}
