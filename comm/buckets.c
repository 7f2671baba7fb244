#include "comm/buckets.h"

#include <stdlib.h>

struct Buckets {
    Comm *comm;
    float *gradient;
    int64_t elements; /* per bucket */
    int64_t begin, pending_end;
    int capacity, started;
    CommRequest *requests; /* [capacity] */
};

Status buckets_init(Buckets **out, Comm *comm, float *gradient, int64_t n, int64_t bucket_bytes, Error *err) {
    *out = NULL;
    int64_t elements = bucket_bytes / (int64_t)sizeof(float);
    if (elements < 1024)
        elements = 1024;
    int capacity = (int)((n + elements - 1) / elements) + 1;
    Buckets *buckets = calloc(1, sizeof *buckets);
    CommRequest *requests = calloc((size_t)capacity, sizeof *requests);
    if (!buckets || !requests) {
        free(buckets);
        free(requests);
        return error_set(err, STATUS_SYSTEM, "out of memory for %d gradient buckets", capacity);
    }
    *buckets =
        (Buckets){.comm = comm, .gradient = gradient, .elements = elements, .capacity = capacity, .requests = requests};
    *out = buckets;
    return STATUS_OK;
}

void buckets_free(Buckets *buckets) {
    if (!buckets)
        return;
    free(buckets->requests);
    free(buckets);
}

void buckets_begin(Buckets *buckets, int64_t begin, int64_t end) {
    buckets->begin = begin;
    buckets->pending_end = end;
    buckets->started = 0;
}

static void start(Buckets *buckets, int64_t first) {
    const Collectives *collectives = buckets->comm->collectives;
    collectives->reduce_start(buckets->comm, buckets->gradient + first, buckets->pending_end - first,
                              &buckets->requests[buckets->started++]);
    buckets->pending_end = first;
}

void buckets_ready(Buckets *buckets, int64_t first) {
    const Collectives *collectives = buckets->comm->collectives;
    if (first < buckets->begin)
        first = buckets->begin;
    while (buckets->pending_end - first >= buckets->elements)
        start(buckets, buckets->pending_end - buckets->elements);
    for (int i = 0; i < buckets->started; i++)
        collectives->reduce_poll(buckets->comm, &buckets->requests[i]);
}

void buckets_finish(Buckets *buckets) {
    const Collectives *collectives = buckets->comm->collectives;
    buckets_ready(buckets, buckets->begin);
    if (buckets->pending_end > buckets->begin)
        start(buckets, buckets->begin);
    for (int i = 0; i < buckets->started; i++)
        collectives->reduce_wait(buckets->comm, &buckets->requests[i]);
    buckets->started = 0;
}
