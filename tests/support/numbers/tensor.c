#include "tests/support/numbers/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 64, GUARD_VALUE = 0xA5, POISON = 0xFF };

static size_t bytes_of(const Tensor *t) {
    return (size_t)t->n * dtype_size(t->type);
}

static void *host_block(size_t bytes) {
    void *block = malloc(bytes ? bytes : 1);
    if (!block)
        abort();
    return block;
}

Tensor tensor_new(Device *device, DType type, int64_t n) {
    Tensor t = {.device = device, .type = type, .n = n};
    size_t bytes = bytes_of(&t) + 2 * GUARD_BYTES;
    Error err;
    if (device->ops->memory->alloc(device, bytes, &t.base, &err) != STATUS_OK) {
        printf("%s\n", err.message);
        abort();
    }
    unsigned char *host = host_block(bytes);
    memset(host, GUARD_VALUE, bytes);
    memset(host + GUARD_BYTES, POISON, bytes_of(&t));
    device->ops->memory->copy_in(device, t.base, host, bytes);
    device->ops->stream->sync(device); /* it has read `host` */
    free(host);
    t.data = (char *)t.base + GUARD_BYTES;
    return t;
}

void tensor_free(Tensor *t) {
    t->device->ops->memory->release(t->device, t->base, bytes_of(t) + 2 * GUARD_BYTES);
    t->base = t->data = NULL;
}

/* Round to nearest even through frexp-free arithmetic on the bits, apart from the code under test. */
static uint16_t bf16_bits(double value) {
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(f))
        return 0x7FC0;
    uint32_t low = bits & 0xFFFFu, high = bits >> 16;
    if (low > 0x8000u || (low == 0x8000u && (high & 1u)))
        high++;
    return (uint16_t)high;
}

void tensor_set(Tensor *t, const double *values) {
    char *host = host_block(bytes_of(t));
    for (int64_t i = 0; i < t->n; i++) {
        switch (t->type) {
        case DTYPE_F32:
            ((float *)host)[i] = (float)values[i];
            break;
        case DTYPE_BF16:
            ((uint16_t *)host)[i] = bf16_bits(values[i]);
            break;
        case DTYPE_U8:
            ((uint8_t *)host)[i] = (uint8_t)values[i];
            break;
        case DTYPE_I32:
            ((int32_t *)host)[i] = (int32_t)values[i];
            break;
        case DTYPE_I64:
            ((int64_t *)host)[i] = (int64_t)values[i];
            break;
        case DTYPE_F64:
            ((double *)host)[i] = values[i];
            break;
        }
    }
    t->device->ops->memory->copy_in(t->device, t->data, host, bytes_of(t));
    t->device->ops->stream->sync(t->device); /* it has read `host` */
    free(host);
}

Tensor tensor_random(Device *device, DType type, int64_t n, double low, double high, uint64_t salt) {
    Tensor t = tensor_new(device, type, n);
    double *values = host_block((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) {
        Philox4 draw = philox4x32(0x7E57, (uint64_t)i, salt);
        values[i] = low + (high - low) * (double)philox_uniform(draw.v[0]);
        if (type == DTYPE_I32 || type == DTYPE_I64 || type == DTYPE_U8)
            values[i] = floor(values[i]);
    }
    tensor_set(&t, values);
    free(values);
    return t;
}

Tensor tensor_zero(Device *device, DType type, int64_t n) {
    return tensor_random(device, type, n, 0, 0, 0);
}

double *tensor_values(const Tensor *t) {
    char *host = host_block(bytes_of(t));
    double *values = host_block((size_t)t->n * sizeof *values);
    t->device->ops->memory->copy_out(t->device, host, t->data, bytes_of(t));
    for (int64_t i = 0; i < t->n; i++) {
        switch (t->type) {
        case DTYPE_F32:
            values[i] = (double)((float *)host)[i];
            break;
        case DTYPE_BF16: {
            uint32_t bits = (uint32_t)((uint16_t *)host)[i] << 16;
            float f;
            memcpy(&f, &bits, sizeof f);
            values[i] = (double)f;
            break;
        }
        case DTYPE_U8:
            values[i] = ((uint8_t *)host)[i];
            break;
        case DTYPE_I32:
            values[i] = ((int32_t *)host)[i];
            break;
        case DTYPE_I64:
            values[i] = (double)((int64_t *)host)[i];
            break;
        case DTYPE_F64:
            values[i] = ((double *)host)[i];
            break;
        }
    }
    free(host);
    return values;
}

int tensor_guards_hold(const Tensor *t) {
    size_t bytes = bytes_of(t) + 2 * GUARD_BYTES;
    unsigned char *host = host_block(bytes);
    t->device->ops->memory->copy_out(t->device, host, t->base, bytes);
    int hold = 1;
    for (size_t i = 0; i < GUARD_BYTES; i++)
        hold = hold && host[i] == GUARD_VALUE && host[bytes - 1 - i] == GUARD_VALUE;
    free(host);
    return hold;
}

int tensor_equals(const char *what, const Tensor *t, const double *want, ToleranceKind kind) {
    double *got = tensor_values(t);
    int ok = compare_vectors(what, t->n, got, want, kind);
    if (!tensor_guards_hold(t)) {
        printf("%s: wrote outside its %lld elements\n", what, (long long)t->n);
        ok = 0;
    }
    free(got);
    return ok;
}
