/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router: shortest ways on a map of a million crossings (1000 x 1000: streets of different lengths, some
 * missing, a few fast roads; all from a seed), by Dijkstra's algorithm. A short way is found in less than a
 * millisecond, one across the map takes hundreds. So that it does not keep short ones waiting, it is looked
 * for in portions of 20 ms: after each one the job gives its slot back (weir_again), and goes on when its
 * turn comes.
 *
 *   weir hub &
 *   router &                                                   (--portion 0: each in one go)
 *   curl 'http://127.0.0.1:8080/route?from=10,20&to=30,25'
 *   curl 'http://127.0.0.1:8080/route?from=5,5&to=990,990&map=1'
 *
 * What a search has so far, distances and frontier, is up to megabytes: to send that through the hub every 20
 * ms would cost more than the search. So it stays here, in `kept`, and the body holds only its name. The
 * request may come back to another process of this service; or too late, when its search has been thrown
 * away. Then it is begun anew, under the same name, so that each process goes on with a search of its own.
 * Each new beginning doubles the portions, so every search ends, even when nothing is ever found again.
 *
 * Memory is bounded: KEPT searches of at most 20 MB. One that nobody has asked for in FORGET_MS (its client
 * has left while it waited) makes room for another; where there is no room, a search runs in one go.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <weir/weir.h>

enum {
    SIDE = 1000,
    NODES = SIDE * SIDE,
    FAST_EVERY = 50,
    KEPT = 32,
    FORGET_MS = 10000,
    LOOK_EVERY = 256, /* crossings between two looks at the clock */
    MAP_WIDTH = 72,
    MAP_HEIGHT = 30
};

/* Time to the crossing on the right and to the one below; 0: no street. */
struct streets {
    uint8_t right[NODES], down[NODES];
};

struct entry {
    uint32_t distance, node;
};

/* `distance` comes from calloc: the kernel gives pages only where the search gets to. 0: not reached yet. */
struct search {
    uint64_t name; /* 0: it is not in kept, or this place is free */
    bool running;
    uint64_t used_ms;
    uint32_t from, to, settled;
    uint32_t *distance; /* and 1 */
    struct entry *heap;
    size_t heap_count, heap_size;
};

struct router {
    struct streets map;
    uint64_t portion_ms;
    pthread_mutex_t lock; /* for kept; a search that is running belongs to the job that runs it */
    struct search kept[KEPT];
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the map ---- */

static uint32_t draw(uint64_t *state) { /* xorshift64* (Vigna, 2016) */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 32);
}

/* One street in ten is missing, none of a fast road. */
static uint8_t street(uint64_t *state, bool fast) {
    uint32_t x = draw(state);
    if (fast) return (uint8_t)(4 + x % 3);
    return x % 10 == 0 ? 0 : (uint8_t)(10 + x / 16 % 31);
}

static void make_map(struct streets *map, uint64_t seed) {
    uint64_t state = seed * 2 + 1;
    for (uint32_t n = 0; n < NODES; n++) {
        uint32_t x = n % SIDE, y = n / SIDE;
        uint8_t right = street(&state, y % FAST_EVERY == FAST_EVERY / 2);
        uint8_t down = street(&state, x % FAST_EVERY == FAST_EVERY / 2);
        map->right[n] = x == SIDE - 1 ? 0 : right;
        map->down[n] = y == SIDE - 1 ? 0 : down;
    }
}

struct neighbour {
    uint32_t node, time;
};

static int neighbours(const struct streets *map, uint32_t n, struct neighbour all[4]) {
    int count = 0;
    if (map->right[n]) all[count++] = (struct neighbour){n + 1, map->right[n]};
    if (map->down[n]) all[count++] = (struct neighbour){n + SIDE, map->down[n]};
    if (n % SIDE && map->right[n - 1]) all[count++] = (struct neighbour){n - 1, map->right[n - 1]};
    if (n >= SIDE && map->down[n - SIDE]) all[count++] = (struct neighbour){n - SIDE, map->down[n - SIDE]};
    return count;
}

/* ---- the frontier: a binary heap, in which what has been improved since may stand more than once ---- */

static int frontier_add(struct search *s, uint32_t distance, uint32_t node) {
    if (s->heap_count == s->heap_size) {
        size_t size = s->heap_size ? s->heap_size * 2 : 256;
        struct entry *more = realloc(s->heap, size * sizeof(*more));
        if (!more) return WEIR_ENOMEM;
        s->heap = more;
        s->heap_size = size;
    }
    size_t at = s->heap_count++;
    for (; at > 0 && s->heap[(at - 1) / 2].distance > distance; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = (struct entry){distance, node};
    return 0;
}

static struct entry frontier_take(struct search *s) {
    struct entry first = s->heap[0], last = s->heap[--s->heap_count];
    size_t at = 0;
    for (size_t child; (child = at * 2 + 1) < s->heap_count; at = child) {
        if (child + 1 < s->heap_count && s->heap[child + 1].distance < s->heap[child].distance) child++;
        if (s->heap[child].distance >= last.distance) break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = last;
    return first;
}

/* ---- searching ---- */

static void search_fini(struct search *s) {
    free(s->distance);
    free(s->heap);
    *s = (struct search){0};
}

static int search_begin(struct search *s, uint32_t from, uint32_t to) {
    s->from = from;
    s->to = to;
    s->distance = calloc(NODES, sizeof(*s->distance));
    if (!s->distance) return WEIR_ENOMEM;
    s->distance[from] = 1;
    return frontier_add(s, 1, from);
}

static int settle(struct search *s, const struct streets *map, struct entry nearest) {
    struct neighbour all[4];
    s->settled++;
    for (int i = neighbours(map, nearest.node, all); i-- > 0;) {
        uint32_t *known = &s->distance[all[i].node], distance = nearest.distance + all[i].time;
        if (*known && *known <= distance) continue;
        *known = distance;
        int err = frontier_add(s, distance, all[i].node);
        if (err != 0) return err;
    }
    return 0;
}

/* Until the way is found, or there is none: 0. Time is up: WEIR_EAGAIN. */
static int search_run(struct search *s, const struct streets *map, const weir_job *job, uint64_t until_ms) {
    for (uint32_t n = 1; s->heap_count > 0; n++) {
        struct entry nearest = frontier_take(s);
        if (nearest.node == s->to) return 0;
        int err = nearest.distance > s->distance[nearest.node] ? 0 : settle(s, map, nearest);
        if (err != 0) return err;
        if (n % LOOK_EVERY == 0 && weir_job_cancelled(job)) return WEIR_ECANCELLED;
        if (n % LOOK_EVERY == 0 && now_ms() >= until_ms) {
            /* this portion ends between two crossings, so nothing is half done */
            return WEIR_EAGAIN;
        }
    }
    return 0;
}

/* ---- kept searches ---- */

/* The search of that name, or a place for it, which then has no distances; NULL: there is no room. */
static struct search *kept_take(struct router *r, uint64_t name) {
    struct search *found = NULL;
    uint64_t now = now_ms();
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < KEPT; i++) {
        struct search *s = &r->kept[i];
        if (s->name == name) {
            found = s->running ? NULL : s;
            break;
        }
        if (!s->name || (!s->running && now - s->used_ms > FORGET_MS)) found = s;
    }
    if (found && found->name != name) search_fini(found);
    if (found) {
        found->name = name;
        found->running = true;
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}

static void kept_give_back(struct router *r, struct search *s) {
    pthread_mutex_lock(&r->lock);
    s->used_ms = now_ms();
    s->running = false;
    pthread_mutex_unlock(&r->lock);
}

static void kept_drop(struct router *r, struct search *s) {
    pthread_mutex_lock(&r->lock);
    search_fini(s);
    pthread_mutex_unlock(&r->lock);
}

/* ---- answering ---- */

/* The way back: each crossing is as far away as the one before it and the street between them. */
static uint32_t before(const struct search *s, const struct streets *map, uint32_t node) {
    struct neighbour all[4];
    for (int i = neighbours(map, node, all); i-- > 0;)
        if (s->distance[all[i].node] && s->distance[all[i].node] + all[i].time == s->distance[node])
            return all[i].node;
    return s->from;
}

static void mark(char map[MAP_HEIGHT][MAP_WIDTH + 1], uint32_t node, char c) {
    map[node / SIDE * MAP_HEIGHT / SIDE][node % SIDE * MAP_WIDTH / SIDE] = c;
}

static int reply(weir_job *job, const struct router *r, const struct search *s) {
    if (!s->distance[s->to]) return weir_reply_problem(job, 404, "no street leads there");
    char picture[MAP_HEIGHT][MAP_WIDTH + 1];
    uint32_t streets = 0;
    memset(picture, '.', sizeof(picture));
    for (int y = 0; y < MAP_HEIGHT; y++) picture[y][MAP_WIDTH] = '\n';
    for (uint32_t node = s->to; node != s->from; node = before(s, &r->map, node)) {
        mark(picture, node, '#');
        streets++;
    }
    mark(picture, s->from, 'A');
    mark(picture, s->to, 'B');
    bool wanted = weir_job_query(job, "map") != NULL;
    return weir_reply_printf(job, 200, "text/plain",
                             "%" PRIu32 ",%" PRIu32 " to %" PRIu32 ",%" PRIu32 ": time %" PRIu32 ", %" PRIu32
                             " streets; looked at %" PRIu32 " crossings in %u portions\n%.*s",
                             s->from % SIDE, s->from / SIDE, s->to % SIDE, s->to / SIDE,
                             s->distance[s->to] - 1, streets, s->settled, weir_job_hop(job) + 1,
                             wanted ? (int)sizeof(picture) : 0, (const char *)picture);
}

/* "X,Y" */
static bool crossing(weir_job *job, const char *name, uint32_t *ret_node) {
    const char *text = weir_job_query(job, name);
    unsigned x, y;
    int end = 0;
    if (!text || sscanf(text, "%4u,%4u%n", &x, &y, &end) != 2 || text[end]) return false;
    if (x >= SIDE || y >= SIDE) return false;
    *ret_node = y * SIDE + x;
    return true;
}

/* What a portion before this one has put into the body; a client's own body says nothing. */
static int resume(weir_job *job, uint64_t *ret_name, unsigned *ret_restarts) {
    const char *body;
    size_t size;
    int err = weir_job_body(job, &body, &size);
    *ret_restarts = 0;
    if (err != 0) return err;
    if (weir_job_hop(job) > 0 && sscanf(body, "%" SCNx64 " %u", ret_name, ret_restarts) == 2) return 0;
    return getrandom(ret_name, sizeof(*ret_name), 0) == sizeof(*ret_name) ? 0 : WEIR_EIO;
}

static int again(weir_job *job, uint64_t name, unsigned restarts) {
    char body[64];
    int size = snprintf(body, sizeof(body), "%" PRIx64 " %u", name, restarts);
    return weir_again(job, NULL, "text/plain", body, (size_t)size);
}

static int route(weir_job *job, void *arg) {
    struct router *r = arg;
    struct search alone = {0};
    uint32_t from, to;
    uint64_t name;
    unsigned restarts;
    if (!crossing(job, "from", &from) || !crossing(job, "to", &to))
        return weir_reply_problem(job, 400, "from and to must be X,Y, each from 0 to %d", SIDE - 1);
    int err = resume(job, &name, &restarts);
    if (err != 0) return err;

    struct search *s = r->portion_ms && name ? kept_take(r, name) : NULL;
    uint64_t until = UINT64_MAX;
    if (s && !s->distance && weir_job_hop(job) > 0 && restarts < 10) restarts++;
    if (s)
        until = now_ms() + (r->portion_ms << restarts);
    else
        s = &alone;
    if (!s->distance) err = search_begin(s, from, to);
    if (err == 0) err = search_run(s, &r->map, job, until);
    if (err == WEIR_EAGAIN) {
        kept_give_back(r, s); /* first: the next portion may begin at once */
        return again(job, name, restarts);
    }
    if (err == 0) err = reply(job, r, s);
    if (s == &alone)
        search_fini(s);
    else
        kept_drop(r, s);
    return err;
}

int main(int argc, char **argv) {
    static const struct option flags[] = {{"hub", required_argument, NULL, 'h'},
                                          {"portion", required_argument, NULL, 'p'},
                                          {"seed", required_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    static struct router r = {.portion_ms = 20, .lock = PTHREAD_MUTEX_INITIALIZER};
    weir_worker_options options = {.hub = getenv("WEIR_HUB")};
    uint64_t seed = 1;
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        if (flag == 'h') options.hub = optarg;
        if (flag == 'p') r.portion_ms = strtoul(optarg, NULL, 10);
        if (flag == 's') seed = strtoull(optarg, NULL, 10);
        if (flag == '?') optind = argc + 1;
    }
    if (optind != argc) {
        fprintf(stderr, "usage: router [--hub ADDR] [--portion MS] [--seed N]\n");
        return 2;
    }
    make_map(&r.map, seed);
    weir_worker *worker = NULL;
    int err = weir_worker_open(&options, &worker);
    if (err == 0) err = weir_worker_offer(worker, "route", route, &r);
    if (err == 0) err = weir_worker_run(worker);
    weir_worker_free(&worker);
    for (size_t i = 0; i < KEPT; i++) search_fini(&r.kept[i]);
    if (err != 0) fprintf(stderr, "router: %s\n", weir_strerror(err));
    return err == 0 ? 0 : 1;
}
