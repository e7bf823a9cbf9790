/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of jobs: an answer that is many jobs, and a request that was put together from their answers. */
#include "base/random.h"
#include "lib/worker.h"
#include "weir/weir.h"
#include "wire/multipart.h"
#include <stdlib.h>

static int write_parts(struct buffer *out, struct slice boundary, const weir_part *parts, size_t count) {
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++) {
        struct slice type = slice_of(parts[i].content_type), body = {parts[i].body, parts[i].size};
        struct multipart_field field = {SLICE("content-type"), type};
        if (type.p && !text_is_field_value(type)) return WEIR_EINVAL;
        err = multipart_write_part(out, boundary, &field, type.p != NULL, body);
    }
    return err == 0 ? multipart_write_end(out, boundary) : err;
}

static int set_scatter(weir_job *job, const char *service, const char *gather) {
    struct buffer to;
    buffer_init(&to);
    int err = buffer_printf(&to, "%s%s%s", service, gather ? "; gather=" : "", gather ? gather : "");
    if (err == 0) err = buffer_append(&to, "", 1);
    if (err == 0) err = weir_job_set_header(job, "weir-scatter", buffer_slice(&to).p);
    buffer_fini(&to);
    return err;
}

int weir_scatter(weir_job *job, const char *service, const char *gather, const weir_part *parts,
                 size_t count) {
    if (!text_is_service(slice_of(service)) || (gather && !text_is_service(slice_of(gather))))
        return WEIR_EINVAL;
    uint64_t bits[2];
    char boundary[MULTIPART_BOUNDARY], type[MULTIPART_TYPE + 1];
    int err = random_entropy(&bits[0]);
    if (err == 0) err = random_entropy(&bits[1]);
    if (err != 0) return err;
    multipart_make_boundary(bits, boundary);
    struct slice line = multipart_type(slice_of(boundary), type);
    type[line.n] = 0;
    struct buffer body;
    buffer_init(&body);
    err = write_parts(&body, slice_of(boundary), parts, count);
    if (err == 0) err = set_scatter(job, service, gather);
    if (err == 0) err = weir_reply(job, 200, type, buffer_slice(&body).p, buffer_size(&body));
    buffer_fini(&body);
    return err;
}

struct parts {
    struct multipart body;
    struct arena arena; /* of the last part's head */
};

void parts_free(struct parts *p) {
    if (p) arena_fini(&p->arena);
    free(p);
}

static int begin(weir_job *job) {
    char boundary[MULTIPART_BOUNDARY];
    const char *body;
    size_t size;
    if (multipart_boundary(head_get(&job->head, HEAD_CONTENT_TYPE), boundary, NULL) != 0)
        return WEIR_EMALFORMED;
    int err = weir_job_body(job, &body, &size);
    if (err != 0) return err;
    job->parts = malloc(sizeof(*job->parts));
    if (!job->parts) return WEIR_ENOMEM;
    arena_init(&job->parts->arena, 0, NULL, 0);
    multipart_init(&job->parts->body, (struct slice){body, size}, slice_of(boundary));
    return 0;
}

int weir_job_next_part(weir_job *job, weir_part *ret_part) {
    struct multipart_part part;
    struct http_head head;
    uint64_t status = 0;
    int err = job->parts ? 0 : begin(job);
    if (err != 0) return err;
    struct arena *a = &job->parts->arena;
    arena_fini(a);
    arena_init(a, WORKER_HEAD_MAX, NULL, 0);
    int more = multipart_next(&job->parts->body, &part, NULL);
    if (more <= 0) return more < 0 ? WEIR_EMALFORMED : WEIR_ENOTFOUND;
    err = multipart_head(&part, SIZE_MAX, a, &head, NULL);
    if (err != 0) return err;
    struct slice type = head_get(&head, HEAD_CONTENT_TYPE), text = {0};
    if (type.p && !(text = arena_copy(a, type)).p) return WEIR_ENOMEM;
    (void)slice_u64(head_get_name(&head, SLICE("weir-part-status")), &status);
    *ret_part = (weir_part){
        .status = (unsigned)status, .content_type = text.p, .body = part.body.p, .size = part.body.n};
    return 0;
}
