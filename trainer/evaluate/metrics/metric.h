/* Metrics: what is measured of a model on a set of images.
 *
 * A metric is a file of this folder, which fills a Metric, and a line of METRICS. The evaluator shows it every batch
 * and asks for its numbers at the end; eval.json, metrics.jsonl, TensorBoard, the tables for people and `--suite` are
 * loops over the table. */
#ifndef EXCON_TRAINER_METRIC_H
#define EXCON_TRAINER_METRIC_H

#include "trainer/method/explain.h"

/* THE list, in the order of eval.json. X(symbol): metric_symbol is the table's entry. */
/* clang-format off */
#define METRICS(X) \
    X(accuracy) \
    X(nll) \
    X(calibration) \
    X(faithfulness_top) \
    X(faithfulness_soft)
/* clang-format on */

#define METRIC_VALUE(symbol) METRIC_##symbol,
enum { METRICS(METRIC_VALUE) METRIC_COUNT };
#undef METRIC_VALUE

/* Which metrics of the table: bit m is entry m. */
typedef uint64_t MetricSet;

enum { METRIC_NUMBERS = 8 }; /* of one metric at most */

typedef enum MetricUnit {
    UNIT_FRACTION, /* people are shown percents */
    UNIT_NATS,
    UNIT_SCORE /* a number without unit */
} MetricUnit;

typedef struct MetricNumber {
    const char *name;  /* in JSON and TensorBoard */
    const char *label; /* in tables for people */
    MetricUnit unit;
    int least_classes; /* people are shown it when there are so many: the top 5 of 5 say nothing */
    const char *help;  /* behind the number in a table, or NULL */
} MetricNumber;

/* One batch of this rank, which may be empty. What is on the host was copied once for all metrics. */
typedef struct MetricBatch {
    int64_t rows, global_rows; /* of this rank, of all */
    int64_t global_first;      /* where the first row of all ranks stands in the set; rank after rank follows */
    const void *images;        /* device [rows,H,W,3] of dtype, normalised */
    const int32_t *labels;     /* device [rows] */
    const float *logits;       /* device [rows,C]: stay as they are when a metric runs passes of its own */
    const float *saliency;     /* device [rows,H,W] on any scale; NULL when no metric needs it */
    const int32_t *rank;       /* host [rows]: classes placed before the label */
    const float *likelihood;   /* host [rows]: -log of the label's probability, nats */
} MetricBatch;

typedef struct Metric Metric;

/* A metric at work. */
typedef struct MetricRun {
    const Metric *metric;
    Explainer *explainer;        /* borrowed: the model (explainer->model), explain_classify for passes of the metric's
                                    own; its mask and masked are free to use, and so are the heads' buffers */
    int64_t images;              /* of a set, at most */
    int64_t max_rows;            /* of a batch of this rank */
    void *own;                   /* what `open` made */
    double sums[METRIC_NUMBERS]; /* `add` adds to them; then summed over ranks, before `finish` */
} MetricRun;

struct Metric {
    const char *suite;      /* the value of --suite that measures it */
    const char *suite_help; /* in the usage of --suite, or NULL */
    const char *title;      /* heads its numbers in a table; NULL: they are of the split's images themselves */
    bool needs_saliency;
    MetricNumber numbers[METRIC_NUMBERS]; /* until the first without a name */
    /* Memory that it needs while it works; NULL: none. A failed `open` leaves nothing to close, and `close` does
     * nothing where nothing is open. */
    Status (*open)(MetricRun *run, Error *err);
    void (*close)(MetricRun *run);
    /* Every rank calls it for every batch, so it may communicate (explainer->model->comm). */
    void (*add)(MetricRun *run, const MetricBatch *batch);
    /* The numbers over all `count` images (at least 1) of all ranks. Every rank calls it, so it may communicate, but
     * for its status, on which the evaluator agrees. */
    Status (*finish)(MetricRun *run, double count, double values[METRIC_NUMBERS], Error *err);
};

/* Entry m of the table. */
const Metric *metric_at(int m);

/* The metrics of a suite, or of all; 0: there is none of that name. */
MetricSet metrics_of_suite(const char *suite);

/* The suites' names with `between` them, with `help` also what each measures in brackets; cut off at `size`. */
void metrics_list_suites(const char *between, bool help, char *out, size_t size);

/* A `finish`: the sums divided by the number of images. */
Status metric_means(MetricRun *run, double count, double values[METRIC_NUMBERS], Error *err);

#endif
