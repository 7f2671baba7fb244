/* Probe operation on images: a corruption. Works on the host, whatever the backend. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/config/nearest.h"
#include "trainer/evaluate/corruptions/corruptions.h"
#include "trainer/probe/session.h"

static Status find_corruption(const char *name, const Corruption **out, Error *err) {
    if (!name)
        return error_set(err, STATUS_USAGE, "corrupt needs --corruption NAME and --severity 1..5");
    *out = corruption_find(name);
    if (*out)
        return STATUS_OK;
    Nearest nearest = {.wanted = name};
    for (int i = 0; i < CORRUPTION_COUNT; i++)
        nearest_offer(&nearest, corruptions[i].name);
    if (nearest.best)
        return error_set(err, STATUS_USAGE, "unknown corruption '%.40s'; did you mean '%s'?", name, nearest.best);
    char names[512] = "";
    for (int i = 0, at = 0; i < CORRUPTION_COUNT; i++)
        at += snprintf(names + at, sizeof names - (size_t)at, "%s%s", i ? ", " : "", corruptions[i].name);
    return error_set(err, STATUS_USAGE, "unknown corruption '%.40s'; there are %s", name, names);
}

static Status check_inputs(const ProbeSession *p, const Array *images, const Array *ids, Error *err) {
    const char *in = p->options->in;
    const int64_t side = images->shape[1];
    if (images->shape[3] != 3 || images->shape[2] != side || ids->count != images->shape[0])
        return error_set(err, STATUS_DATA, "%s: images must be [n,S,S,3] and ids [n]", in);
    for (int64_t i = 0; i < ids->count; i++)
        if (ids->i32[i] < 0)
            return error_set(err, STATUS_DATA, "%s: ids[%lld] = %d is negative", in, (long long)i, ids->i32[i]);
    if (corruption_check_side(side > SHRT_MAX ? SHRT_MAX : (int)side, err) == STATUS_OK)
        return STATUS_OK;
    error_prefix(err, "%s", in);
    return STATUS_DATA;
}

static Status run_corrupt(ProbeSession *p, const Corruption *corruption, const Array *images, const Array *ids,
                          Error *err) {
    const int side = (int)images->shape[1];
    const size_t image = 3 * (size_t)side * (size_t)side, n = (size_t)p->rows;
    int64_t *own_ids = calloc(n + 1, sizeof *own_ids);
    uint8_t *out = malloc(n * image + 1);
    Status status = STATUS_OK;
    if (own_ids && out) {
        for (size_t i = 0; i < n; i++)
            own_ids[i] = ids->i32[(size_t)p->first + i];
        status = corrupt_images(corruption, (int)p->options->severity, side, p->rows, own_ids,
                                images->u8 + (size_t)p->first * image, out, err);
    } else {
        status = error_set(err, STATUS_SYSTEM, "out of memory for %zu images", n);
    }
    status = comm_agree(&p->runtime.comm, status, err);
    if (status == STATUS_OK)
        status = probe_put_rows(p, "out", out, ARRAY_U8, 3, (int64_t[]){side, side, 3}, err);
    free(own_ids);
    free(out);
    return status;
}

Status probe_corrupt(ProbeSession *p, Error *err) {
    const Corruption *corruption = NULL;
    Array images = {0}, ids = {0};
    Status status;
    RETURN_IF(find_corruption(p->options->corruption, &corruption, err));
    if (p->options->severity < 1 || p->options->severity > CORRUPTION_SEVERITIES)
        return error_set(err, STATUS_USAGE, "--severity is 1 to %d", CORRUPTION_SEVERITIES);
    GOTO_IF(array_read(p->in, "images", ARRAY_U8, 4, &images, err), done);
    GOTO_IF(array_read(p->in, "ids", ARRAY_I32, 1, &ids, err), done);
    GOTO_IF(check_inputs(p, &images, &ids, err), done);
    status = run_corrupt(p, corruption, &images, &ids, err);
done:
    array_free(&images);
    array_free(&ids);
    return status;
}
