/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hub itself serves to clients below /-/: durable jobs and topics. A call that takes time is a
 * struct api_call of the request (conn.h): whoever serves it takes it off the request (ask.call = NULL) and
 * answers with one of the functions of reply.c, or through ask.requester, as a worker's reply goes.
 */
#ifndef EDGE_API_H
#define EDGE_API_H

#include "edge/conn.h"

/* Is this path the API's? */
bool api_has(const struct edge *e, struct slice path);
/* Answers, now or later. */
void api_serve(struct ask *a, struct slice path, struct slice query);

/* For a call that takes time and wants no body: whatever follows the head is read and dropped. 0 or
   WEIR_ENOMEM. */
int api_ignore_body(struct ask *a);

/* jobs_api.c. Is it to become a durable job (RFC 7240, respond-async)? */
bool jobs_api_wanted(const struct ask *a);
/* A request for a->service that is. */
void jobs_api_submit(struct ask *a);
/* rest: of the path, behind /-/jobs. */
void jobs_api_serve(struct ask *a, struct slice rest, struct slice query, struct slice tenant);

/* topics_api.c. rest: of the path, from the slash before the topic on. */
void topics_api_serve(struct ask *a, struct slice rest, struct slice query, struct slice tenant);

#endif
