#include "trainer/evaluate/metrics/metric.h"

#include <stdio.h>
#include <string.h>

#define DECLARE(symbol) extern const Metric metric_##symbol;
METRICS(DECLARE)

/* The table of metrics. */
#define ENTRY(symbol) &metric_##symbol,
static const Metric *const metrics[METRIC_COUNT] = {METRICS(ENTRY)};
_Static_assert(METRIC_COUNT <= 64, "a MetricSet has a bit for each");

const Metric *metric_at(int m) {
    return metrics[m];
}

MetricSet metrics_of_suite(const char *suite) {
    MetricSet set = 0;
    for (int m = 0; m < METRIC_COUNT; m++)
        if (strcmp(suite, "all") == 0 || strcmp(suite, metrics[m]->suite) == 0)
            set |= (MetricSet)1 << m;
    return set;
}

static int named_before(int m) {
    for (int earlier = 0; earlier < m; earlier++)
        if (strcmp(metrics[earlier]->suite, metrics[m]->suite) == 0)
            return 1;
    return 0;
}

void metrics_list_suites(const char *between, bool help, char *out, size_t size) {
    size_t used = 0;
    for (int m = 0; m < METRIC_COUNT && used < size; m++) {
        const Metric *metric = metrics[m];
        if (named_before(m))
            continue;
        used += (size_t)snprintf(out + used, size - used, "%s%s", m > 0 ? between : "", metric->suite);
        if (help && metric->suite_help && used < size)
            used += (size_t)snprintf(out + used, size - used, " (%s)", metric->suite_help);
    }
}

Status metric_means(MetricRun *run, double count, double values[METRIC_NUMBERS], Error *err) {
    (void)err;
    for (int i = 0; i < METRIC_NUMBERS; i++)
        values[i] = run->sums[i] / count;
    return STATUS_OK;
}
