/* SPDX-License-Identifier: Apache-2.0 */
/* `weir status`: a hub's /status as tables. */
#include "cli/cli.h"
#include "cli/fetch.h"
#include "cli/table.h"

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>
#include <weir/weir.h>

enum { ADMIN, JSON };
const struct cli_option status_options[] = {
    [ADMIN] = {"admin", 'a', "ADDR", "the hub's admin listener (its configuration's; 127.0.0.1:8083)"},
    [JSON] = {"json", 'j', NULL, "print the hub's answer as it is"},
    {0},
};

struct status {
    const char *admin;
    bool json;
};

static bool take(void *ctx, struct cli *cli, int option, const char *value) {
    struct status *s = ctx;
    (void)cli;
    if (option == ADMIN)
        s->admin = value;
    else
        s->json = true;
    return true;
}

/* A row for each keyed service, and one for each worker that owns slices of one. */
static void print_rings(const json_t *root) {
    static const struct cli_column columns[] = {
        {"keyed service", "name", 's'},    {"epoch", "epoch", 'n'}, {"phase", "phase", 's'},
        {"members", "members", 'n'},       {"held", "held", 'n'},   {"moved", "moved", 'n'},
        {"moved ever", "moved_ever", 'n'}, {"keys", "keys", 'n'},
    };
    static const struct cli_column owners[] = {{"keyed service", "service", 's'},
                                               {"owner", "worker", 's'},
                                               {"slices", "slices", 'n'},
                                               {"of", "of", 'n'}};
    json_t *rings = json_array(), *shares = json_array();
    size_t i, j;
    json_t *service, *worker;
    json_array_foreach(json_object_get(root, "services"), i, service) {
        json_t *ring = json_object_get(service, "ring"), *name = json_object_get(service, "name");
        if (!json_is_object(ring) || !json_is_string(name)) continue;
        json_t *row = json_copy(ring);
        json_object_set(row, "name", name);
        json_array_append_new(rings, row);
        json_array_foreach(json_object_get(root, "workers_list"), j, worker) {
            json_t *n = json_object_get(json_object_get(worker, "slices"), json_string_value(name));
            if (!n) continue;
            row = json_object();
            json_object_set(row, "service", name);
            json_object_set(row, "worker", json_object_get(worker, "id"));
            json_object_set(row, "slices", n);
            json_object_set(row, "of", json_object_get(ring, "slices"));
            json_array_append_new(shares, row);
        }
    }
    if (json_array_size(rings) > 0) CLI_TABLE("Rings", columns, rings);
    if (json_array_size(shares) > 0) CLI_TABLE("Owners of keys", owners, shares);
    json_decref(rings);
    json_decref(shares);
}

/* A line of what is stored, if anything is. */
static void print_stored(const json_t *stored) {
    const char *name, *before = "stored: ";
    json_t *value;
    char text[32];
    json_object_foreach(json_object_get(stored, "jobs"), name, value) {
        if (json_integer_value(value) == 0) continue;
        printf("%s%s %s", before, cli_number((uint64_t)json_integer_value(value), text, sizeof text), name);
        before = ", ";
    }
    json_int_t subscriptions = json_integer_value(json_object_get(stored, "subscriptions"));
    json_int_t messages = json_integer_value(json_object_get(stored, "messages"));
    if (subscriptions > 0)
        printf("%s%lld subscriptions, %lld messages", before, (long long)subscriptions, (long long)messages);
    if (subscriptions > 0 || before[0] == ',') putchar('\n');
}

static void print_tables(const json_t *root) {
    static const struct cli_column services[] = {
        {"service", "name", 's'},          {"queued", "queued", 'n'},       {"bytes", "queued_bytes", 'n'},
        {"running", "running", 'n'},       {"workers", "workers", 'n'},     {"slots", "slots", 'n'},
        {"oldest", "oldest_wait_ms", 'm'}, {"submitted", "submitted", 'n'}, {"done", "done", 'n'},
        {"per s", "rate_per_s", 'f'},
    };
    static const struct cli_column tenants[] = {
        {"tenant", "name", 's'},           {"requests", "requests", 'n'},
        {"submitted", "submitted", 'n'},   {"dispatched", "dispatched", 'n'},
        {"refused", "rejected_rate", 'n'}, {"weight", "weight", 'n'},
        {"rate/s", "rate_per_s", 'f'},     {"best priority", "best_priority", 'n'},
    };
    static const struct cli_column workers[] = {
        {"worker", "id", 's'},         {"services", "services", 'l'},     {"running", "running", 'n'},
        {"slots", "slots", 'n'},       {"dispatched", "dispatched", 'n'}, {"since", "attached_s", 't'},
        {"draining", "draining", 'b'}, {"transport", "transport", 's'},   {"address", "address", 's'},
        {"labels", "labels", 's'},
    };
    static const struct cli_column jobs[] = {
        {"job", "job", 's'},           {"service", "service", 's'}, {"state", "state", 's'},
        {"worker", "worker", 's'},     {"hop", "hop", 'n'},         {"attempt", "attempt", 'n'},
        {"priority", "priority", 'n'}, {"age", "age_ms", 'm'},
    };
    const char *version = json_string_value(json_object_get(root, "version"));
    static const struct cli_column head[] = {
        {"", "requests", 'n'}, {"", "queued", 'n'}, {"", "running", 'n'},
        {"", "workers", 'n'},  {"", "slots", 'n'},
    };
    printf("weir %s, up %.0f s%s:", version ? version : "?",
           json_number_value(json_object_get(root, "uptime_s")),
           json_is_true(json_object_get(root, "draining")) ? ", draining" : "");
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        char text[32];
        cli_cell_text(&head[i], root, text, sizeof text);
        printf("%s %s %s", i ? "," : "", text, head[i].field);
    }
    putchar('\n');
    print_stored(json_object_get(root, "stored"));
    CLI_TABLE("Services", services, json_object_get(root, "services"));
    const json_t *all = json_object_get(root, "tenants");
    if (json_array_size(all) > 1) CLI_TABLE("Tenants", tenants, all); /* besides those that named none */
    print_rings(root);
    CLI_TABLE("Workers", workers, json_object_get(root, "workers_list"));
    CLI_TABLE("Jobs", jobs, json_object_get(root, "jobs"));
}

static int show(struct cli *cli, const struct status *s, const char *admin) {
    struct buffer body;
    unsigned status = 0;
    buffer_init(&body);
    int err = fetch(admin, "/status", 5000, &status, &body), result = CLI_OK;
    json_t *root = err ? NULL : json_loadb(buffer_slice(&body).p, buffer_size(&body), 0, NULL);
    if (err) {
        int code = err == WEIR_EINVAL ? CLI_USAGE : CLI_UNREACHABLE;
        result = cli_fail(cli, code, "%s: %s", admin, weir_strerror(err));
    } else if (status != 200 || !json_is_object(root)) {
        result = cli_fail(cli, CLI_FAILED, "%s answered %u, and no status", admin, status);
    } else if (s->json) {
        struct slice all = buffer_slice(&body);
        printf("%.*s%s", SLICE_ARG(all), all.n && all.p[all.n - 1] == '\n' ? "" : "\n");
    } else {
        print_tables(root);
    }
    json_decref(root);
    buffer_fini(&body);
    return result;
}

int cmd_status(struct cli *cli) {
    struct status s = {0};
    struct config config;
    int result = cli_options(cli, take, &s);
    if (result >= 0) return result;
    if (cli->argument_count > 0) return cli_wrong(cli, "takes no arguments");
    if (s.admin) return show(cli, &s, s.admin);
    if ((result = cli_config(cli, &config))) return result;
    if (config.admin)
        result = show(cli, &s, config.admin);
    else
        result = cli_fail(cli, CLI_USAGE, "the configuration has no admin listener; give --admin ADDR");
    config_fini(&config);
    return result;
}
