/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/api.h"
#include "weir/weir.h"

/* What stands behind the prefix in the path; p NULL: it is another path. */
static struct slice behind(struct slice path, struct slice prefix) {
    if (path.n < prefix.n || memcmp(path.p, prefix.p, prefix.n) != 0) return (struct slice){0};
    struct slice rest = {path.p + prefix.n, path.n - prefix.n};
    return rest.n == 0 || rest.p[0] == '/' ? rest : (struct slice){0};
}

bool api_has(const struct edge *e, struct slice path) {
    return e->config.topics_at_root || behind(path, SLICE("/-")).p;
}

void api_serve(struct ask *a, struct slice path, struct slice query) {
    const struct edge_config *cfg = &a->conn->edge->config;
    const char *why = NULL;
    struct slice tenant, rest;
    int err = ask_tenant(a, &tenant, &why);
    if (err != 0)
        reply_problem(a, err, 0, why, 0, false);
    else if (cfg->topics_at_root)
        topics_api_serve(a, path, query, tenant);
    else if (cfg->topics && (rest = behind(path, SLICE("/-/topics"))).p)
        topics_api_serve(a, rest, query, tenant);
    else if (cfg->jobs && (rest = behind(path, SLICE("/-/jobs"))).p)
        jobs_api_serve(a, rest, query, tenant);
    else
        reply_problem(
            a, WEIR_ENOTFOUND, 0,
            "nothing is served at this path; below /-/ there are topics, and jobs if the hub has a data "
            "directory (--data)",
            0, false);
}

int api_ignore_body(struct ask *a) {
    int err = ask_add_body(a);
    if (err != 0 || a->input_over) return err;
    body_abandon(a->message->body);
    a->requester.ops->taken(&a->requester);
    ask_read_body(a);
    return 0;
}
