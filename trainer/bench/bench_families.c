/* The operator families beside the convolutions, timed. A rate in GB/s counts what the contract makes an operator read
 * and write, once each; FLOP are those of the products alone. */
#include "trainer/bench/bench_ops.h"

enum { CLASSES = 200, LOSS_ROWS = 4096 };

/* ---- copy, convert, norm: on the largest activation of the network ----------------------------------------------- */

typedef struct Activation {
    int which;
    int64_t M; /* positions */
    int C;
    void *x, *y, *residual;
    float *scale; /* mean, invstd, scale, shift: [4C] */
    double *sums; /* [2C] */
    float *wide;  /* [M C] */
    int32_t *index;
} Activation;

enum { NORM_SUMS, NORM_APPLY, NORM_APPLY_ADD, NORM_BACKWARD_SUMS, NORM_BACKWARD_APPLY };

static void run_norm(OpsBench *o, const void *arg) {
    const Activation *a = arg;
    const Ops *ops = o->d->ops;
    const int C = a->C;
    const NormStatistics stats = {a->scale, a->scale + C, a->scale + 2 * C, a->scale + 3 * C};
    switch (a->which) {
    case NORM_SUMS:
        ops->norm->sums(o->d, a->M, C, o->dtype, a->x, a->sums);
        break;
    case NORM_APPLY:
        ops->norm->apply(o->d, a->M, C, o->dtype, a->x, &stats, NULL, 1, a->y);
        break;
    case NORM_APPLY_ADD:
        ops->norm->apply(o->d, a->M, C, o->dtype, a->x, &stats, a->residual, 1, a->y);
        break;
    case NORM_BACKWARD_SUMS:
        ops->norm->backward_sums(o->d, a->M, C, o->dtype, a->y, NULL, NULL, a->x, &stats, 1, a->sums);
        break;
    default:
        ops->norm->backward_apply(o->d, a->M, C, o->dtype, a->y, a->x, &stats, a->sums, (double)a->M, a->y);
    }
}

static void run_copy(OpsBench *o, const void *arg) {
    const Activation *a = arg;
    o->d->ops->memory->copy(o->d, a->y, a->x, (size_t)(a->M * a->C) * dtype_size(o->dtype));
}

static void run_cast(OpsBench *o, const void *arg) {
    const Activation *a = arg;
    o->d->ops->convert->cast(o->d, a->M * a->C, DTYPE_F32, a->wide, o->dtype, a->y);
}

static void run_gather(OpsBench *o, const void *arg) {
    const Activation *a = arg;
    o->d->ops->convert->gather_rows(o->d, o->N, (size_t)(a->M / o->N * a->C) * dtype_size(o->dtype), a->x, a->index,
                                    a->y);
}

static void run_guard(OpsBench *o, const void *arg) {
    const Activation *a = arg;
    o->d->ops->optimise->nonfinite(o->d, a->M * a->C, a->wide, (int64_t *)(void *)a->sums);
}

static void bench_activation(OpsBench *o) {
    static const struct {
        const char *name;
        int which;
        double passes; /* tensor reads and writes */
    } norms[] = {{"norm_sums", NORM_SUMS, 1},
                 {"norm_apply", NORM_APPLY, 2},
                 {"norm_apply_add", NORM_APPLY_ADD, 3},
                 {"norm_backward_sums", NORM_BACKWARD_SUMS, 3},
                 {"norm_backward_apply", NORM_BACKWARD_APPLY, 3}};
    Activation a = {.M = o->N * o->side * o->side, .C = o->width};
    const int64_t n = a.M * a.C;
    const double bytes = (double)n * (double)dtype_size(o->dtype);
    a.x = ops_buffer(o, o->dtype, n, 0);
    a.y = ops_buffer(o, o->dtype, n, 0);
    a.residual = ops_buffer(o, o->dtype, n, 0);
    a.scale = ops_buffer(o, DTYPE_F32, 4 * a.C, 0);
    a.sums = ops_buffer(o, DTYPE_F64, 2 * a.C, 0);
    a.wide = ops_buffer(o, DTYPE_F32, n, 0);
    a.index = ops_buffer(o, DTYPE_I32, o->N, (int)o->N);
    ops_case(o, "copy", REFERENCE_COPY, 2 * bytes, run_copy, &a);
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        a.which = norms[i].which;
        ops_case(o, norms[i].name, REFERENCE_COPY, norms[i].passes * bytes, run_norm, &a);
    }
    ops_case(o, "cast f32", REFERENCE_COPY, bytes + 4 * (double)n, run_cast, &a);
    ops_case(o, "gather_rows", REFERENCE_COPY, 2 * bytes, run_gather, &a);
    ops_case(o, "guard_nonfinite", REFERENCE_COPY, 4 * (double)n, run_guard, &a);
    ops_release_all(o);
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

typedef struct ViewsCase {
    ViewSpec spec;
    uint8_t *images;
    int64_t *ids;
    void *out;
} ViewsCase;

static void run_views(OpsBench *o, const void *arg) {
    const ViewsCase *c = arg;
    o->d->ops->views->make(o->d, &c->spec, o->N, o->side, o->side, c->images, c->ids, o->dtype, c->out, NULL);
}

static void bench_views(OpsBench *o) {
    static const struct {
        const char *name;
        ViewKind kind;
    } kinds[] = {{"views standard", VIEW_STANDARD}, {"views random", VIEW_RANDOM}};
    const int64_t pixels = o->N * o->side * o->side * 3;
    ViewsCase c = {.spec = {.seed = 1,
                            .epoch = 1,
                            .view = 1,
                            .scale_min = 0.2f,
                            .scale_max = 1.0f,
                            .ratio_min = 0.75f,
                            .ratio_max = 4.0f / 3.0f,
                            .flip_probability = 0.5f,
                            .jitter_probability = 0.8f,
                            .grey_probability = 0.2f,
                            .brightness = 0.4f,
                            .contrast = 0.4f,
                            .saturation = 0.4f,
                            .hue = 0.1f,
                            .mean = {0.5f, 0.5f, 0.5f},
                            .std = {0.25f, 0.25f, 0.25f}},
                   .images = ops_buffer(o, DTYPE_U8, pixels, 0),
                   .ids = ops_buffer(o, DTYPE_I64, o->N, (int)o->N),
                   .out = ops_buffer(o, o->dtype, pixels, 0)};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        c.spec.kind = kinds[i].kind;
        ops_case(o, kinds[i].name, REFERENCE_COPY, (double)pixels * (double)(1 + dtype_size(o->dtype)), run_views, &c);
    }
    ops_release_all(o);
}

/* ---- saliency and pool: on the last stage's activation ----------------------------------------------------------- */

typedef struct LastStage {
    int which, h, C; /* h: side of the activation */
    void *A;         /* [N, h h, C] */
    float *features; /* [N, C] */
    float *cam, *up, *mask;
    void *images, *out;
} LastStage;

enum { POOL_FORWARD, POOL_BACKWARD, WEIGHTS, CAM, UPSAMPLE, MASK, TOP, APPLY };

static void run_last_stage(OpsBench *o, const void *arg) {
    static const float fill[3] = {0.0f, 0.0f, 0.0f};
    const LastStage *s = arg;
    const Ops *ops = o->d->ops;
    const int HW = s->h * s->h, pixels = o->side * o->side;
    switch (s->which) {
    case POOL_FORWARD:
        ops->pool->forward(o->d, o->N, HW, s->C, o->dtype, s->A, s->features);
        break;
    case POOL_BACKWARD:
        ops->pool->backward(o->d, o->N, HW, s->C, o->dtype, s->features, s->A);
        break;
    case WEIGHTS:
        ops->saliency->weights(o->d, o->N, HW, s->C, o->dtype, s->A, s->features);
        break;
    case CAM:
        ops->saliency->cam(o->d, o->N, HW, s->C, o->dtype, s->A, s->features, 0, s->cam);
        break;
    case UPSAMPLE:
        ops->saliency->upsample(o->d, o->N, s->h, s->h, o->side, o->side, s->cam, s->up);
        break;
    case MASK:
        ops->saliency->mask(o->d, o->N, pixels, s->up, 0.5f, s->mask);
        break;
    case TOP:
        ops->saliency->top(o->d, o->N, pixels, s->up, pixels / 2, s->mask);
        break;
    default:
        ops->saliency->apply(o->d, o->N, pixels, o->dtype, s->images, s->mask, fill, 0, s->out);
    }
}

static void bench_last_stage(OpsBench *o) {
    LastStage s = {.h = o->side / 8, .C = 8 * o->width};
    const int64_t maps = o->N * s.h * s.h, pixels = o->N * o->side * o->side;
    const double size = (double)dtype_size(o->dtype), bytes = (double)(maps * s.C) * size;
    const struct {
        const char *name;
        int which;
        double bytes;
    } cases[] = {{"pool_forward", POOL_FORWARD, bytes},
                 {"pool_backward", POOL_BACKWARD, bytes},
                 {"saliency_weights", WEIGHTS, bytes},
                 {"saliency_cam", CAM, bytes},
                 {"saliency_upsample", UPSAMPLE, 4.0 * (double)(maps + pixels)},
                 {"saliency_mask", MASK, 8.0 * (double)pixels},
                 {"saliency_top", TOP, 8.0 * (double)pixels},
                 {"saliency_apply", APPLY, (double)pixels * (4.0 + 6.0 * size)}};
    s.A = ops_buffer(o, o->dtype, maps * s.C, 0);
    s.features = ops_buffer(o, DTYPE_F32, o->N * s.C, 0);
    s.cam = ops_buffer(o, DTYPE_F32, maps, 0);
    s.up = ops_buffer(o, DTYPE_F32, pixels, 0);
    s.mask = ops_buffer(o, DTYPE_F32, pixels, 0);
    s.images = ops_buffer(o, o->dtype, 3 * pixels, 0);
    s.out = ops_buffer(o, o->dtype, 3 * pixels, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.which = cases[i].which;
        ops_case(o, cases[i].name, REFERENCE_COPY, cases[i].bytes, run_last_stage, &s);
    }
    ops_release_all(o);
}

/* ---- dense, unit, classify: the heads' shapes -------------------------------------------------------------------- */

typedef struct HeadCase {
    int which;
    int64_t rows;
    int in, out;
    float *x, *w, *bias, *y, *dw, *norm;
    int32_t *labels;
} HeadCase;

enum { DENSE_FORWARD, DENSE_BACKWARD_DATA, DENSE_BACKWARD_WEIGHT, UNIT_FORWARD, CLASSIFY_LOSS };

static void run_head(OpsBench *o, const void *arg) {
    const HeadCase *c = arg;
    const Ops *ops = o->d->ops;
    switch (c->which) {
    case DENSE_FORWARD:
        ops->dense->forward(o->d, c->rows, c->in, c->out, c->x, c->w, c->bias, 1, c->y);
        break;
    case DENSE_BACKWARD_DATA:
        ops->dense->backward_data(o->d, c->rows, c->in, c->out, c->y, c->w, c->x);
        break;
    case DENSE_BACKWARD_WEIGHT:
        ops->dense->backward_weight(o->d, c->rows, c->in, c->out, c->x, c->y, c->dw, c->bias);
        break;
    case UNIT_FORWARD:
        ops->unit->forward(o->d, c->rows, c->out, c->y, c->dw, c->norm);
        break;
    default:
        ops->classify->loss(o->d, c->rows, c->out, c->y, c->labels, 1.0f, c->norm, c->dw);
    }
}

static void bench_heads(OpsBench *o) {
    HeadCase c = {.rows = 2 * o->N, .in = 8 * o->width, .out = 8 * o->width};
    const double flop = 2.0 * (double)c.rows * c.in * c.out, bytes = 8.0 * (double)c.rows * c.out;
    const int64_t most = c.rows > c.in ? c.rows : c.in;
    const struct {
        const char *name;
        int which;
        Reference of;
        double work;
    } cases[] = {{"dense_forward", DENSE_FORWARD, REFERENCE_GEMM_F32, flop},
                 {"dense_backward_data", DENSE_BACKWARD_DATA, REFERENCE_GEMM_F32, flop},
                 {"dense_backward_weight", DENSE_BACKWARD_WEIGHT, REFERENCE_GEMM_F32, flop},
                 {"unit_forward", UNIT_FORWARD, REFERENCE_COPY, bytes},
                 {"classify_loss", CLASSIFY_LOSS, REFERENCE_COPY, bytes}};
    c.x = ops_buffer(o, DTYPE_F32, c.rows * c.in, 0);
    c.w = ops_buffer(o, DTYPE_F32, (int64_t)c.in * c.out, 0);
    c.bias = ops_buffer(o, DTYPE_F32, c.out, 0);
    c.y = ops_buffer(o, DTYPE_F32, c.rows * c.out, 0);
    c.dw = ops_buffer(o, DTYPE_F32, most * c.out, 0);
    c.norm = ops_buffer(o, DTYPE_F32, c.rows, 0);
    c.labels = ops_buffer(o, DTYPE_I32, c.rows, c.out);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        c.which = cases[i].which;
        ops_case(o, cases[i].name, cases[i].of, cases[i].work, run_head, &c);
    }
    ops_release_all(o);
}

/* ---- contrast: both passes on one rank --------------------------------------------------------------------------- */

typedef struct LossCase {
    ContrastShape shape;
    int gradient;
    float *z, *lse, *sums, *dz;
    int32_t *group, *counts;
    void *scratch;
} LossCase;

static void run_loss(OpsBench *o, const void *arg) {
    const LossCase *c = arg;
    if (c->gradient)
        o->d->ops->contrast->gradient(o->d, &c->shape, c->z, c->group, c->sums, c->counts, c->lse, c->dz, c->scratch);
    else
        o->d->ops->contrast->lse(o->d, &c->shape, c->z, c->lse, c->scratch);
}

static void bench_loss_passes(OpsBench *o) {
    const BenchOptions *options = o->b->options;
    const int64_t rows = options->rows < LOSS_ROWS ? options->rows : LOSS_ROWS;
    const int D = (int)options->dim;
    const Reference of = o->d->kind == DEVICE_CUDA ? REFERENCE_GEMM : REFERENCE_GEMM_F32; /* unit of the products */
    const double flop = 2.0 * (double)rows * (double)rows * D;
    LossCase c = {.shape = {.rows = rows,
                            .own_rows = rows,
                            .dim = D,
                            .groups = CLASSES,
                            .anchors = rows,
                            .temperature = 0.1f,
                            .base_temperature = 0.07f,
                            .products = o->d->kind == DEVICE_CUDA ? o->dtype : DTYPE_F32}};
    const size_t scratch = o->d->ops->contrast->scratch(o->d, rows, CLASSES, D);
    float *x = ops_buffer(o, DTYPE_F32, rows * D, 0);
    c.z = ops_buffer(o, DTYPE_F32, rows * D, 0);
    c.lse = ops_buffer(o, DTYPE_F32, rows, 0);
    c.dz = ops_buffer(o, DTYPE_F32, rows * D, 0);
    c.sums = ops_buffer(o, DTYPE_F32, (int64_t)CLASSES * D, 0);
    c.counts = ops_buffer(o, DTYPE_I32, CLASSES, 1);
    c.group = ops_buffer(o, DTYPE_I32, rows, CLASSES);
    c.scratch = ops_buffer(o, DTYPE_U8, (int64_t)scratch + 1, 0);
    if (o->status == STATUS_OK) {
        o->d->ops->unit->forward(o->d, rows, D, x, c.z, c.lse);
        o->d->ops->contrast->groups(o->d, &c.shape, c.z, c.group, c.sums, c.counts);
    }
    ops_case(o, "contrast_lse", of, flop, run_loss, &c);
    c.gradient = 1;
    ops_case(o, "contrast_gradient", of, 2 * flop, run_loss, &c);
    ops_release_all(o);
}

/* ---- optimise: as many parameters as a ResNet-18 of this width --------------------------------------------------- */

typedef struct SgdCase {
    int64_t n;
    float *gradient, *velocity, *parameter;
    void *low;
} SgdCase;

static void run_sgd(OpsBench *o, const void *arg) {
    static const SgdStep step = {.lr = 1e-6f, .momentum = 0.9f, .weight_decay = 1e-4f};
    const SgdCase *c = arg;
    o->d->ops->optimise->sgd(o->d, c->n, &step, c->gradient, c->velocity, c->parameter, c->low);
}

static void bench_sgd(OpsBench *o) {
    SgdCase c = {.n = (int64_t)2727 * o->width * o->width};
    c.gradient = ops_buffer(o, DTYPE_F32, c.n, 0);
    c.velocity = ops_buffer(o, DTYPE_F32, c.n, 0);
    c.parameter = ops_buffer(o, DTYPE_F32, c.n, 0);
    c.low = o->dtype == DTYPE_BF16 ? ops_buffer(o, DTYPE_BF16, c.n, 0) : NULL;
    ops_case(o, "sgd", REFERENCE_COPY, (double)c.n * (c.low ? 22.0 : 20.0), run_sgd, &c);
    ops_release_all(o);
}

void ops_families(OpsBench *o) {
    bench_activation(o);
    bench_views(o);
    bench_last_stage(o);
    bench_heads(o);
    bench_loss_passes(o);
    bench_sgd(o);
}
