/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: every key by flag name, file and environment; precedence; what is refused and how it is
 * said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "core/core.h"
#include "hub/config.h"
#include "lib/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

static int setup(void **state) {
    struct config *c = malloc(sizeof *c);
    if (!c || config_init(c)) return -1;
    *state = c;
    return 0;
}

static int teardown(void **state) {
    config_fini(*state);
    free(*state);
    return 0;
}

static void set(struct config *c, const char *key, const char *value) {
    char *text = NULL;
    int err = config_set(c, key, value, &text);
    if (err) fail_msg("%s = %s: %s", key, value, text);
}

static void refuse(struct config *c, const char *key, const char *value, const char *message) {
    char *text = NULL;
    assert_int_equal(config_set(c, key, value, &text), WEIR_ECONFIG);
    assert_string_equal(text, message);
    free(text);
}

static void read_text(struct config *c, const char *ini) {
    char *text = NULL;
    int err = config_text(c, "f.ini", slice_of(ini), &text);
    if (err) fail_msg("%s", text);
}

static void refuse_text(struct config *c, const char *ini, const char *message) {
    char *text = NULL;
    assert_int_equal(config_text(c, "f.ini", slice_of(ini), &text), WEIR_ECONFIG);
    assert_string_equal(text, message);
    free(text);
}

static void check(struct config *c) {
    char *text = NULL;
    int err = config_check(c, &text);
    if (err) fail_msg("%s", text);
}

static void refuse_check(struct config *c, const char *message) {
    char *text = NULL;
    assert_int_equal(config_check(c, &text), WEIR_ECONFIG);
    assert_string_equal(text, message);
    free(text);
}

static void test_defaults(void **state) {
    struct config *c = *state;
    check(c);
    assert_int_equal(c->listen.count, 1);
    assert_string_equal(c->listen.items[0], "127.0.0.1:8080");
    assert_string_equal(c->workers.items[0], "127.0.0.1:8081");
    assert_string_equal(c->admin, "127.0.0.1:8083");
    assert_int_equal(c->max_head, 64 * 1024);
    assert_int_equal(c->max_body, 1024 * 1024 * 1024);
    assert_int_equal(c->head_timeout, 10000);
    assert_int_equal(c->target_wait, 100);
    assert_int_equal(c->drain, 28000);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_null(c->access_log);
    assert_null(c->tenant_header);
    assert_null(c->health_path);
    assert_int_equal(c->route.count, 0);
    assert_false(c->trust_forwarded);
    assert_false(config_tokens_wanted(&c->worker_tokens));
    assert_false(config_tokens_wanted(&c->client_tokens));
    assert_int_equal(c->tenant.count, 0);
    assert_int_equal(c->tenant_weight, 1);
    assert_int_equal(c->tenant_rate, 0);
    assert_null(c->require);
}

/* The defaults that the core has too are the same. */
static void test_core_defaults(void **state) {
    struct config *c = *state;
    check(c);
    struct core_service_config ours, core;
    config_service_core(config_service_find(c, SLICE("any")), &ours);
    core_service_defaults(&core);
    assert_int_equal(ours.max_queued, core.max_queued);
    assert_int_equal(ours.max_queued_bytes, core.max_queued_bytes);
    assert_int_equal(ours.queue_time_us, core.queue_time_us);
    assert_int_equal(ours.target_wait_us, core.target_wait_us);
    assert_int_equal(ours.age_us, core.age_us);
    assert_int_equal(ours.attempts, core.attempts);
    assert_int_equal(ours.full_status, core.full_status);
    assert_int_equal(ours.retry_always, core.retry_always);
    assert_int_equal(ours.shortest_first, core.shortest_first);
    assert_int_equal(ours.best_priority, core.best_priority);
    assert_int_equal(ours.require.n + ours.prefer.n, 0);
    assert_int_equal(ours.prefer_us, core.prefer_us);
    assert_int_equal(ours.shed_wait_us, core.shed_wait_us);
    assert_int_equal(ours.shed_after_us, core.shed_after_us);
    struct core_tenant_config our_tenant, core_tenant;
    config_tenant_core(&c->tenant_default, &our_tenant);
    core_tenant_defaults(&core_tenant);
    assert_int_equal(our_tenant.weight, core_tenant.weight);
    assert_int_equal(our_tenant.best_priority, core_tenant.best_priority);
    assert_int_equal(our_tenant.rate_per_h, core_tenant.rate_per_h);
    assert_int_equal(our_tenant.burst, 1); /* the core's 0 counts as 1 */
    struct core_config hub;
    core_defaults(&hub);
    assert_int_equal(c->max_tenants, hub.max_tenants);
    assert_int_equal(c->max_queued, hub.max_queued);
    assert_int_equal(c->max_queued_bytes, hub.max_queued_bytes);
    assert_int_equal(c->max_hops, hub.max_hops);
    assert_int_equal(c->max_services, hub.max_services);
    assert_int_equal(c->max_workers, hub.max_workers);
}

static void test_values(void **state) {
    struct config *c = *state;
    set(c, "max-head", "72K");
    assert_int_equal(c->max_head, 72 * 1024);
    set(c, "idle-timeout", "1500ms");
    assert_int_equal(c->idle_timeout, 1500);
    set(c, "idle-timeout", "2m");
    assert_int_equal(c->idle_timeout, 120000);
    set(c, "trust-forwarded", "on");
    assert_true(c->trust_forwarded);
    set(c, "log-level", "debug");
    assert_int_equal(c->log_level, LOG_DEBUG);
    set(c, "access-log-format", "json");
    assert_int_equal(c->access_log_format, CONFIG_JSON);
    set(c, "admin", "off");
    assert_null(c->admin);
    set(c, "tenant-header", "X-Tenant");
    assert_string_equal(c->tenant_header, "x-tenant");
    set(c, "health-path", "/healthz");
    assert_string_equal(c->health_path, "/healthz");
    set(c, "route", "/a=b=svc.1");
    assert_string_equal(c->route.items[0].name, "/a=b");
    assert_string_equal(c->route.items[0].value, "svc.1");
    set(c, "listen", "[::1]:80");
    set(c, "listen", "unix:/run/weir.sock");
    assert_int_equal(c->listen.count, 2);
    assert_string_equal(c->listen.items[1], "unix:/run/weir.sock");
    check(c);
}

static void test_refused(void **state) {
    struct config *c = *state;
    refuse(c, "lissten", "x", "lissten: unknown key; did you mean listen?");
    refuse(c, "max-heads", "1K", "max-heads: unknown key; did you mean max-head?");
    refuse(c, "colour", "red", "colour: unknown key");
    refuse(c, "", "x", ": unknown key");
    refuse(c, "max-head", "64Q", "max-head: \"64Q\" is not a size (bytes, or with KiB, MiB, GiB)");
    refuse(c, "max-head", "-1", "max-head: \"-1\" is not a size (bytes, or with KiB, MiB, GiB)");
    refuse(c, "max-head", "1", "max-head: \"1\" is not between 1KiB and 80KiB");
    refuse(c, "drain", "soon", "drain: \"soon\" is not a time (seconds, or with ms, s, m, h)");
    refuse(c, "heartbeat", "1ms", "heartbeat: \"1ms\" is not between 10ms and 24h");
    refuse(c, "attempts", "0", "attempts: \"0\" is not between 1 and 1000");
    refuse(c, "attempts", "three", "attempts: \"three\" is not a number");
    refuse(c, "log-level", "loud", "log-level: \"loud\" is none of error|warn|info|debug");
    refuse(c, "trust-forwarded", "maybe", "trust-forwarded: \"maybe\" is neither yes nor no");
    refuse(c, "listen", "8080", "listen: \"8080\" is not an address (HOST:PORT or unix:PATH)");
    refuse(c, "listen", "", "listen: is empty (say off instead)");
    refuse(c, "route", "/a", "route: \"/a\" is not PATH=SERVICE");
    refuse(c, "route", "a=b", "route: \"a\" is not a path (it begins with / and has no query)");
    refuse(c, "route", "/a=b c", "route: \"b c\" is not a service's name");
    refuse(c, "health-path", "/a?b",
           "health-path: \"/a?b\" is not a path (it begins with / and has no query)");
    refuse(c, "tenant-header", "x y", "tenant-header: \"x y\" is not a header's name");
    refuse(c, "server-name", "a\r\nb: c", "server-name: \"a\r\nb: c\" is not a header's value");
    refuse(c, "cors-origin", "example.org",
           "cors-origin: \"example.org\" is not an origin (*, or scheme://host[:port])");
    refuse(c, "token", "secret", "token: a token is NAME=SECRET");
    refuse(c, "token", "a=s e", "token: the secret of \"a\" is not of letters, digits and -._~+/=");
    refuse(c, "tenant-rate", "10/d", "tenant-rate: \"10/d\" is not a rate (10/s, 600/m, 5000/h, or off)");
    refuse(c, "tenant-rate", "/s", "tenant-rate: \"/s\" is not a rate (10/s, 600/m, 5000/h, or off)");
    refuse(c, "tenant-rate", "1.5", "tenant-rate: \"1.5\" is not a rate (10/s, 600/m, 5000/h, or off)");
    refuse(c, "tenant-rate", "18446744073709551615/s",
           "tenant-rate: \"18446744073709551615/s\" is not a rate (10/s, 600/m, 5000/h, or off)");
    refuse(c, "tenant-rate", "1000001/s", "tenant-rate: \"1000001/s\" is not between off and 1000000/s");
    refuse(c, "tenant-weight", "0", "tenant-weight: \"0\" is not between 1 and 1000");
    refuse(c, "tenant-best-priority", "10", "tenant-best-priority: \"10\" is not between 0 and 9");
    refuse(c, "order", "longest", "order: \"longest\" is none of fifo|shortest");
    refuse(c, "require", "", "require: is empty (say off instead)");
    refuse(c, "require", " , ", "require: is empty (say off instead)");
    static const char *const labels[] = {"=v", "a${", "${}", "${a:b}", "a}", "${a", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        char why[100];
        snprintf(why, sizeof why, "prefer: \"%s\" is not a label (k or k=v, with ${HEADER})", labels[i]);
        refuse(c, "prefer", labels[i], why);
    }
    refuse(c, "tenant", "a.weight", "tenant: \"a.weight\" is not NAME.KEY=VALUE");
    refuse(c, "tenant", "weight=1", "tenant: \"weight=1\" is not NAME.KEY=VALUE");
    refuse(c, "tenant", ".weight=1", "tenant: \"\" is not a tenant's name");
    refuse(c, "tenant", "a b.weight=1", "tenant: \"a b\" is not a tenant's name");
    refuse(c, "tenant", "a].weight=1", "tenant: \"a]\" is not a tenant's name");
    refuse(c, "client-token", "a", "client-token: a token is NAME=SECRET");
    assert_int_equal(config_set(c, "nope", "x", NULL), WEIR_ECONFIG);
    /* nothing of that has left a trace */
    test_defaults(state);
}

/* A list that is wrong in its middle changes nothing. */
static void test_list_is_atomic(void **state) {
    struct config *c = *state;
    set(c, "route", "/a=a, /b=b");
    char *text = NULL;
    assert_int_equal(config_set(c, "route", "/c=c,/d", &text), WEIR_ECONFIG);
    free(text);
    assert_int_equal(c->route.count, 2);
    set(c, "route", "/c=c");
    assert_int_equal(c->route.count, 3);
    set(c, "route", "off");
    assert_int_equal(c->route.count, 0);
    for (int i = 0; i < 100; i++) {
        char route[32];
        snprintf(route, sizeof route, "/%d=s%d", i, i);
        set(c, "route", route);
    }
    assert_int_equal(c->route.count, 100);
    assert_string_equal(c->route.items[99].value, "s99");
}

static void test_file(void **state) {
    struct config *c = *state;
    read_text(c, "\xef\xbb\xbfmax-hops = 7   ; inline comment\r\n"
                 "# comment\n"
                 "[hub]\n"
                 "listen = 127.0.0.1:1\n"
                 "  listen = 127.0.0.1:2\n"
                 "route = /a=a, /b=b\n"
                 "[service primes.v2]\n"
                 "max-queued = 5\n"
                 "retry = always\n"
                 "[service other]\n"
                 "[hub]\n"
                 "queue-time = 5s");
    check(c);
    assert_int_equal(c->max_hops, 7);
    assert_int_equal(c->listen.count, 2);
    assert_string_equal(c->listen.items[1], "127.0.0.1:2");
    assert_int_equal(c->route.count, 2);
    assert_int_equal(c->service.count, 2);
    struct core_service_config s;
    config_service_core(config_service_find(c, SLICE("primes.v2")), &s);
    assert_int_equal(s.max_queued, 5);
    assert_true(s.retry_always);
    assert_int_equal(s.queue_time_us, 5000000); /* the hub's */
    config_service_core(config_service_find(c, SLICE("other")), &s);
    assert_int_equal(s.max_queued, 10000);
    assert_false(s.retry_always);
    assert_int_equal(s.queue_time_us, 5000000);
}

static void test_file_errors(void **state) {
    struct config *c = *state;
    refuse_text(c, "[hub]\nlissten = x\n", "f.ini:2: lissten: unknown key; did you mean listen?");
    refuse_text(c, "\n\n[service a]\nmax-queue = 1",
                "f.ini:4: max-queue: unknown key; did you mean max-queued?");
    refuse_text(c, "[hub]\n[servcie a]\nmax-queued = 1\nnonsense = 2\n",
                "f.ini:2: unknown section [servcie a]; there are [hub], [service NAME] and [tenant NAME]");
    refuse_text(c, "[service]\n",
                "f.ini:1: unknown section [service]; there are [hub], [service NAME] and [tenant NAME]");
    refuse_text(c, "[service a/b]\n", "f.ini:1: \"a/b\" is not a service's name");
    refuse_text(c, "max-head = 64Q\nmax-hops = 3\ndrain = x\n",
                "f.ini:1: max-head: \"64Q\" is not a size (bytes, or with KiB, MiB, GiB)\n"
                "f.ini:3: drain: \"x\" is not a time (seconds, or with ms, s, m, h)");
    assert_int_equal(c->max_hops, 3); /* what is right is taken, and told apart from what is wrong */
    refuse_text(c, "max-hops = 4\njust words\n", "f.ini:2: neither KEY = VALUE nor [SECTION]");
    char *text = NULL;
    assert_int_equal(config_text(c, "f.ini", (struct slice){"max-hops = 4\0\n", 14}, &text), WEIR_ECONFIG);
    assert_string_equal(text, "f.ini:1: the line has a NUL byte");
    free(text);
}

/* No line is cut in silence, and a long service name is whole. */
static void test_file_long_lines(void **state) {
    struct config *c = *state;
    char line[6000], *text = NULL;
    snprintf(line, sizeof line, "server-name = %05000d\n", 0);
    assert_int_equal(config_text(c, "f.ini", slice_of(line), &text), WEIR_ECONFIG);
    assert_non_null(strstr(text, "f.ini:1: the line is longer than"));
    free(text);
    snprintf(line, sizeof line, "[service %0150d]\nattempts = 9\n", 7);
    read_text(c, line);
    check(c);
    snprintf(line, sizeof line, "%0150d", 7);
    assert_int_equal(config_service_find(c, slice_of(line))->attempts, 9);
}

static void test_precedence(void **state) {
    struct config *c = *state;
    char *const env[] = {
        "WEIR_MAX_HOPS=20",          "WEIR_LISTEN=127.0.0.1:3,127.0.0.1:4", "WEIR_DRAIN=", "HOME=/",
        "WEIR_SERVICE=a.attempts=8", "WEIR_SERVICE_HOST=10.0.0.1",          NULL};
    char *text = NULL;
    read_text(c, "max-hops = 10\nmax-services = 10\nlisten = 127.0.0.1:1\nlisten = 127.0.0.1:2\ndrain = 1s\n"
                 "[service a]\nattempts = 7\nmax-queued = 3\n");
    assert_int_equal(config_env(c, env, &text), 0);
    assert_int_equal(c->max_hops, 20);
    assert_int_equal(c->max_services, 10);
    assert_int_equal(c->drain, 1000);
    assert_int_equal(c->listen.count, 2);
    assert_string_equal(c->listen.items[0], "127.0.0.1:3");
    set(c, "max-hops", "30");
    set(c, "listen", "127.0.0.1:5");
    set(c, "listen", "127.0.0.1:6");
    assert_int_equal(c->max_hops, 30);
    assert_int_equal(c->listen.count, 2);
    assert_string_equal(c->listen.items[0], "127.0.0.1:5");
    set(c, "service", "a.queue-time=1s, b.x.attempts=2");
    check(c);
    const struct config_service *a = config_service_find(c, SLICE("a"));
    assert_int_equal(a->attempts, 8);
    assert_int_equal(a->max_queued, 3);
    assert_int_equal(a->queue_time, 1000);
    assert_int_equal(config_service_find(c, SLICE("b.x"))->attempts, 2);

    char *const bad[] = {"WEIR_MAX_HEAD=much", NULL};
    assert_int_equal(config_env(c, bad, &text), WEIR_ECONFIG);
    assert_string_equal(text, "WEIR_MAX_HEAD: \"much\" is not a size (bytes, or with KiB, MiB, GiB)");
    free(text);
}

static void test_checks(void **state) {
    struct config *c = *state;
    set(c, "listen", "off");
    refuse_check(c, "listen: at least one address is needed");
    set(c, "listen", "127.0.0.1:8081");
    refuse_check(c, "127.0.0.1:8081 is given for two listeners");
    set(c, "listen", "off");
    set(c, "listen", "127.0.0.1:0");
    set(c, "workers", "127.0.0.1:0");
    check(c);
    set(c, "workers", "off");
    check(c);
    set(c, "route", "/a=b,/c=d,/a=e");
    refuse_check(c, "route: /a is given twice, for b and e");
    set(c, "route", "off");
    set(c, "route", "/-/jobs=b");
    refuse_check(c, "route: /-/jobs: paths below /-/ are the hub's own");
    set(c, "route", "off");
    set(c, "cors-origin", "*, https://a.example:8443");
    refuse_check(c, "cors-origin: * stands for all; give nothing else with it");
}

static void test_tokens(void **state) {
    struct config *c = *state;
    char path[] = "/tmp/weir-test-XXXXXX", want[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "# ours\n\n carl = c+/c= \r\ndora=dd") > 0);
    set(c, "token", "anna=aaa,bert=bb==");
    set(c, "token-file", path);
    check(c);
    check(c); /* again: read afresh, not added */
    assert_int_equal(c->file_tokens.count, 2);
    assert_true(config_tokens_wanted(&c->worker_tokens));
    assert_string_equal(config_token_name(&c->worker_tokens, SLICE("aaa")), "anna");
    assert_string_equal(config_token_name(&c->worker_tokens, SLICE("bb==")), "bert");
    assert_string_equal(config_token_name(&c->worker_tokens, SLICE("c+/c=")), "carl");
    assert_string_equal(config_token_name(&c->worker_tokens, SLICE("dd")), "dora");
    assert_null(config_token_name(&c->worker_tokens, SLICE("aa")));
    assert_null(config_token_name(&c->worker_tokens, SLICE("aaaa")));
    assert_null(config_token_name(&c->worker_tokens, SLICE("aaaaaa")));
    assert_null(config_token_name(&c->worker_tokens, SLICE("")));
    assert_true(dprintf(fd, "\nnonsense") > 0);
    snprintf(want, sizeof want, "%s:5: a token is NAME=SECRET", path);
    refuse_check(c, want);
    assert_int_equal(ftruncate(fd, 0), 0);
    snprintf(want, sizeof want, "%s: has no token", path);
    refuse_check(c, want);
    close(fd);
    unlink(path);
    snprintf(want, sizeof want, "%s: No such file or directory", path);
    refuse_check(c, want);
}

static const struct config_tenant *tenant_at(const struct config *c, size_t i) {
    return (const struct config_tenant *)c->tenant.items + i;
}

static void test_tenants(void **state) {
    struct config *c = *state;
    char ini[400], longest[256];
    memset(longest, 't', 255);
    longest[255] = '\0';
    snprintf(ini, sizeof ini, "[tenant a/b:c;d]\nweight = 3\nrate = 90/m\n[tenant %s]\nburst = 7\n", longest);
    read_text(c, ini);
    set(c, "tenant-burst", "4");
    set(c, "tenant-best-priority", "2");
    set(c, "tenant", "gold.1.best-priority=0, gold.1.weight=9");
    check(c);
    assert_int_equal(c->tenant.count, 3);
    struct core_tenant_config t;
    config_tenant_core(tenant_at(c, 0), &t);
    assert_string_equal(tenant_at(c, 0)->section.name, "a/b:c;d");
    assert_int_equal(t.weight, 3);
    assert_int_equal(t.rate_per_h, 5400);
    assert_int_equal(t.burst, 4); /* the hub's */
    assert_int_equal(t.best_priority, 2);
    assert_string_equal(tenant_at(c, 1)->section.name, longest);
    assert_int_equal(tenant_at(c, 1)->burst, 7);
    config_tenant_core(tenant_at(c, 2), &t);
    assert_string_equal(tenant_at(c, 2)->section.name, "gold.1");
    assert_int_equal(t.weight, 9);
    assert_int_equal(t.best_priority, 0);
    config_tenant_core(&c->tenant_default, &t);
    assert_int_equal(t.weight, 1);
    assert_int_equal(t.burst, 4);
    refuse_text(c, "[tenant a]\nwieght = 1", "f.ini:2: wieght: unknown key; did you mean weight?");
    refuse_text(c, "[tenant a=b]\n", "f.ini:1: \"a=b\" is not a tenant's name");
    refuse_text(c, "[tenant a]\nrate = fast",
                "f.ini:2: rate: \"fast\" is not a rate (10/s, 600/m, 5000/h, or off)");
    set(c, "max-tenants", "2");
    refuse_check(c, "more tenants are configured than max-tenants allows");
}

static void test_rates(void **state) {
    static const struct {
        const char *text, *printed;
        uint64_t per_h;
    } rates[] = {{"10/s", "10/s", 36000},
                 {"10", "10/s", 36000},
                 {"600/m", "10/s", 36000},
                 {"90/m", "90/m", 5400},
                 {"5000/h", "5000/h", 5000},
                 {"7200/h", "2/s", 7200},
                 {"120/h", "2/m", 120},
                 {"1000000/s", "1000000/s", 3600000000},
                 {"1/h", "1/h", 1},
                 {"off", "off", 0},
                 {"0", "off", 0}};
    struct config *c = *state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct buffer b;
        char line[64];
        set(c, "tenant-rate", rates[i].text);
        assert_int_equal(c->tenant_rate, rates[i].per_h);
        buffer_init(&b);
        assert_int_equal(config_print(c, &b), 0);
        assert_int_equal(buffer_append(&b, "", 1), 0);
        snprintf(line, sizeof line, "\ntenant-rate = %s\n", rates[i].printed);
        assert_non_null(strstr(buffer_slice(&b).p, line));
        buffer_fini(&b);
    }
}

static void service_core(struct config *c, const char *name, struct core_service_config *ret) {
    check(c);
    config_service_core(config_service_find(c, slice_of(name)), ret);
}

/* Texts are the hub's where a service gives none, however often they change. */
static void test_labels(void **state) {
    struct config *c = *state;
    struct core_service_config s;
    read_text(c, "require = gpu ,\tzone=${x-Zone}\nprefer-wait = 1s\n[service a]\nrequire = a=${h}-${i}$, b\n"
                 "shed-wait = 200ms\nshed-after = 0\norder = shortest\nbest-priority = 3\n[service none]\n"
                 "require = off\n");
    service_core(c, "a", &s);
    assert_true(slice_eq(s.require, SLICE("a=${h}-${i}$,b")));
    assert_int_equal(s.prefer.n, 0);
    assert_int_equal(s.prefer_us, 1000000);
    assert_int_equal(s.shed_wait_us, 200000);
    assert_int_equal(s.shed_after_us, 0);
    assert_int_equal(s.best_priority, 3);
    assert_true(s.shortest_first);
    service_core(c, "none", &s);
    assert_int_equal(s.require.n, 0);
    service_core(c, "b", &s);
    assert_true(slice_eq(s.require, SLICE("gpu,zone=${x-Zone}")));
    assert_int_equal(s.shed_wait_us, 0);
    set(c, "service", "b.prefer=near  mem=${x-mem},b.attempts=4"); /* here a comma begins the next setting */
    set(c, "require", "tpu");
    service_core(c, "b", &s);
    assert_true(slice_eq(s.require, SLICE("tpu")));
    assert_true(slice_eq(s.prefer, SLICE("near,mem=${x-mem}")));
    assert_int_equal(s.attempts, 4);
    set(c, "service", "b.require=own"); /* what was borrowed becomes its own */
    set(c, "service", "b.require=own2");
    set(c, "require", "off");
    service_core(c, "b", &s);
    assert_true(slice_eq(s.require, SLICE("own2")));
    service_core(c, "c", &s);
    assert_int_equal(s.require.n, 0);
    char *text = NULL;
    assert_int_equal(config_set(c, "service", "b.require=a}", &text), WEIR_ECONFIG);
    free(text);
    service_core(c, "b", &s);
    assert_true(slice_eq(s.require, SLICE("own2")));
    char longest[1026];
    memset(longest, 'l', 1025);
    longest[1025] = '\0';
    refuse(c, "prefer", longest, "prefer: labels are longer than 1024 bytes");
    set(c, "prefer", longest + 1);
}

static void test_client_tokens(void **state) {
    struct config *c = *state;
    char path[] = "/tmp/weir-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "shop=from-file\n") > 0);
    close(fd);
    set(c, "token", "worker=w");
    set(c, "client-token", "web=s1,web=s2");
    set(c, "client-token-file", path);
    check(c);
    const struct config_tokens *t = &c->client_tokens;
    assert_true(config_tokens_wanted(t));
    assert_string_equal(config_token_name(t, SLICE("s1")), "web");
    assert_string_equal(config_token_name(t, SLICE("s2")), "web");
    assert_string_equal(config_token_name(t, SLICE("from-file")), "shop");
    assert_null(config_token_name(t, SLICE("w"))); /* each door has its own */
    for (int i = 0; i < 1000; i++) {
        char token[40];
        snprintf(token, sizeof token, "n%d=secret%d", i, i);
        set(c, "client-token", token);
    }
    check(c);
    unlink(path);
    for (int i = 0; i < 1000; i++) {
        char name[20], secret[20];
        snprintf(name, sizeof name, "n%d", i);
        snprintf(secret, sizeof secret, "secret%d", i);
        assert_string_equal(config_token_name(t, slice_of(secret)), name);
    }
    assert_string_equal(config_token_name(t, SLICE("s1")), "web");
    assert_null(config_token_name(t, SLICE("secret1000")));
    assert_null(config_token_name(&c->worker_tokens, SLICE("s1")));
}

/* What is printed, read again, prints the same; no secret is in it. */
static void test_print(void **state) {
    struct config *c = *state, again;
    struct buffer first, second;
    read_text(c,
              "listen = 127.0.0.1:1, unix:/x\nroute = /a=a,/b=b\nmax-head = 3000\ndrain = 90s\nage = 0\n"
              "access-log = -\ntenant-header = T\ntrust-forwarded = true\ntoken = a=verysecret\n"
              "client-token = b=verysecret\ntenant-rate = 60/m\nrequire = a b=${c}\n"
              "[service s]\nmax-queued = 3\nfull-status = 429\n[service t]\n[service u]\norder = shortest\n"
              "require = off\nprefer=;x y\nshed-wait = 1500ms\n[tenant ;a#b]\nrate = 7/h\nweight = 2\n");
    check(c);
    buffer_init(&first);
    buffer_init(&second);
    assert_int_equal(config_print(c, &first), 0);
    assert_int_equal(config_init(&again), 0);
    char *text = NULL;
    if (config_text(&again, "printed", buffer_slice(&first), &text)) fail_msg("%s", text);
    set(&again, "token", "a=other");
    set(&again, "client-token", "b=other");
    assert_int_equal(config_print(&again, &second), 0);
    assert_true(slice_eq(buffer_slice(&first), buffer_slice(&second)));
    assert_int_equal(buffer_append(&first, "", 1), 0);
    const char *printed = buffer_slice(&first).p;
    assert_null(strstr(printed, "verysecret"));
    assert_non_null(strstr(printed, "\nlisten = unix:/x\n"));
    assert_non_null(strstr(printed, "\nmax-head = 3000\n"));
    assert_non_null(strstr(printed, "[service s]\nmax-queued = 3\nfull-status = 429\n\n[service t]\n"));
    assert_non_null(strstr(printed, "\ntenant-rate = 1/s\n"));
    assert_non_null(strstr(printed, "\nrequire = a,b=${c}\n"));
    assert_non_null(strstr(printed, "[service u]\norder = shortest\nrequire = off\nprefer=;x,y\n"));
    assert_non_null(strstr(printed, "\n[tenant ;a#b]\nweight = 2\nrate = 7/h\n"));
    buffer_fini(&first);
    buffer_fini(&second);
    config_fini(&again);
}

static void test_missing_file(void **state) {
    char *text = NULL;
    assert_int_equal(config_file(*state, "/nonexistent/weir.ini", &text), WEIR_ECONFIG);
    assert_string_equal(text, "/nonexistent/weir.ini: No such file or directory");
    free(text);
}

/* Flags are names that a shell, a file and an environment can hold; each default is a value that its key
 * takes. */
static void test_table(void **state) {
    struct config *c = *state;
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *k = &config_keys[i];
        assert_non_null(k->help);
        if (k->type == CONFIG_GROUP) continue;
        assert_int_equal(strspn(k->flag, "abcdefghijklmnopqrstuvwxyz-"), strlen(k->flag));
        set(c, k->flag, k->standard);
        for (size_t j = 0; j < i; j++)
            assert_true(!config_keys[j].flag || strcmp(config_keys[j].flag, k->flag) != 0);
        char name[64];
        config_env_name(k->flag, name, sizeof name);
        assert_int_equal(strlen(name), strlen(k->flag) + 5);
    }
    test_defaults(state);
}

/* Everything once, every layer; whatever runs out of memory on the way says so. */
static int whole_story(void) {
    static char *const env[] = {"WEIR_LISTEN=127.0.0.1:3,127.0.0.1:4", "WEIR_SERVICE=b.attempts=3", NULL};
    struct config c;
    struct buffer b;
    char *text = NULL;
    buffer_init(&b);
    int err = config_init(&c);
    if (!err)
        err = config_text(&c, "f.ini",
                          SLICE("listen=:1,:2\nroute=/a=a,/b=b,/c=c,/d=d,/e=e\ntoken=a=b\n[service q]\n"
                                "attempts=3\nrequire=x,y\n[service r]\n[tenant t]\nrate=1\n"),
                          &text);
    if (!err) err = config_env(&c, env, &text);
    if (!err) err = config_set(&c, "cors-origin", "https://a, https://b", &text);
    if (!err) err = config_set(&c, "tenant-header", "X-Tenant", &text);
    if (!err) err = config_set(&c, "prefer", "x", &text);
    if (!err) err = config_set(&c, "tenant", "u.weight=2", &text);
    if (!err) err = config_check(&c, &text);
    if (!err) err = config_print(&c, &b);
    assert_null(text);
    buffer_fini(&b);
    config_fini(&c);
    return err;
}

static void test_out_of_memory(void **state) {
    (void)state;
    int err = WEIR_ENOMEM;
    for (long n = 1; err; n++) {
        long live = fault_live();
        fault_fail_at(n);
        err = whole_story();
        fault_fail_at(0);
        assert_int_equal(fault_live(), live);
        if (err)
            assert_int_equal(err, WEIR_ENOMEM);
        else
            assert_true(n > 40);
    }
}

/* A list that could not grow for want of memory is as before, and can grow later. */
static void test_list_out_of_memory(void **state) {
    struct config *c = *state;
    set(c, "route", "/a=a,/b=b");
    int err = WEIR_ENOMEM;
    for (long n = 1; err; n++) {
        fault_fail_at(n);
        err = config_set(c, "route", "/c=c,/d=d,/e=e", NULL);
        fault_fail_at(0);
        assert_int_equal(c->route.count, err ? 2 : 5);
    }
    assert_string_equal(c->route.items[1].value, "b");
    assert_string_equal(c->route.items[4].value, "e");
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_defaults),       T(test_core_defaults),
        T(test_values),         T(test_refused),
        T(test_list_is_atomic), T(test_file),
        T(test_file_errors),    T(test_precedence),
        T(test_checks),         T(test_file_long_lines),
        T(test_tokens),         T(test_print),
        T(test_table),          T(test_missing_file),
        T(test_tenants),        T(test_rates),
        T(test_labels),         T(test_client_tokens),
        T(test_out_of_memory),  T(test_list_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
