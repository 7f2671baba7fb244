/* excon import KIND [SRC] DST: a dataset becomes a folder of HDF5 shards, once, however many processes are started.
 * Progress goes to stderr: a bar on a terminal, a line every ten seconds otherwise; the result is one line on stdout.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "comm/comm.h"
#include "io/dataset/dataset.h"
#include "io/import/import.h"
#include "kernels/base/clock.h"
#include "kernels/base/processors.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"
#include "trainer/config/nearest.h"
#include "trainer/report/terminal.h"

enum { LINE_SECONDS = 10 };

typedef struct Request {
    const Importer *importer;
    const char *src, *dst;
    int64_t classes, threads, size, train_per_class, val_per_class, seed; /* classes 0: all, or 10 for synthetic */
    double correlation;
} Request;

typedef struct Progress {
    int terminal;
    double printed; /* seconds at the last line */
} Progress;

static void show_progress(void *ctx, const char *stage, int64_t done, int64_t total, double seconds) {
    Progress *progress = ctx;
    const double rate = seconds > 0 ? (double)done / seconds : 0;
    if (progress->terminal) {
        char text[96];
        snprintf(text, sizeof text, "%lld/%lld | %.0f images/s", (long long)done, (long long)total, rate);
        terminal_progress(stderr, total > 0 ? (double)done / (double)total : 1, stage, text, "");
    } else if (seconds - progress->printed >= LINE_SECONDS) {
        fprintf(stderr, "import: %s, %lld of %lld images, %.0f images/s\n", stage, (long long)done, (long long)total,
                rate);
        progress->printed = seconds;
    }
}

static Status print_result(const char *dst, int64_t made, double seconds, Error *err) {
    Dataset dataset;
    RETURN_IF(dataset_open(&dataset, dst, 0, err));
    const int64_t train = dataset.count[SPLIT_TRAIN], val = dataset.count[SPLIT_VAL];
    printf("%s: %lld train and %lld val images of %dx%d, %d classes, %d shards; ", dst, (long long)train,
           (long long)val, dataset.width, dataset.height, dataset.classes,
           dataset.shard_count[SPLIT_TRAIN] + dataset.shard_count[SPLIT_VAL]);
    if (made < train + val)
        printf("%lld kept from an earlier import, ", (long long)(train + val - made));
    printf("%lld imported in %.1f s, %.0f images/s\n", (long long)made, seconds,
           seconds > 0 ? (double)made / seconds : 0);
    dataset_close(&dataset);
    return STATUS_OK;
}

/* "a, b and c", or between bars. */
static void list_names(char *text, size_t size, const char *comma, const char *and, bool only_with_source) {
    const Importer *last = NULL;
    size_t used = 0;
    text[0] = 0;
    for (const Importer *const *importer = importers; *importer; importer++)
        if (!only_with_source || (*importer)->source)
            last = *importer;
    for (const Importer *const *importer = importers; *importer; importer++)
        if ((!only_with_source || (*importer)->source) && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s",
                                     used == 0           ? ""
                                     : *importer == last ? and
                                                         : comma,
                                     (*importer)->name);
}

static Status unknown_dataset(const char *name, Error *err) {
    char names[512];
    Nearest nearest = {name, NULL, 0};
    for (const Importer *const *importer = importers; *importer; importer++)
        nearest_offer(&nearest, (*importer)->name);
    if (nearest.best)
        return error_set(err, STATUS_USAGE, "unknown dataset '%.60s'; did you mean '%s'?", name, nearest.best);
    list_names(names, sizeof names, ", ", " and ", false);
    return error_set(err, STATUS_USAGE, "unknown dataset '%.60s'; there are %s", name, names);
}

static Status choose_paths(Request *request, const OptionList *positional, Error *err) {
    const char *name = positional->items[0];
    for (const Importer *const *importer = importers; *importer && !request->importer; importer++)
        if (strcmp(name, (*importer)->name) == 0)
            request->importer = *importer;
    if (!request->importer)
        return unknown_dataset(name, err);
    request->src = positional->items[1];
    request->dst = positional->items[positional->count - 1];
    if (request->importer->source && positional->count < 3)
        return error_set(err, STATUS_USAGE,
                         "import %s needs the dataset's folder and the folder to write: import %s SRC DST", name, name);
    return STATUS_OK;
}

static Status check_range(const char *name, int64_t value, int64_t high, Error *err) {
    if (value < 0 || value > high)
        return error_set(err, STATUS_USAGE, "--%s %lld is outside 0..%lld", name, (long long)value, (long long)high);
    return STATUS_OK;
}

static Status import_here(const Request *request, Error *err) {
    int64_t made = 0;
    Progress progress = {.terminal = terminal_redraws(stderr)};
    const SyntheticOptions synthetic = {.seed = (uint64_t)request->seed,
                                        .classes = 10,
                                        .size = (int)request->size,
                                        .train_per_class = request->train_per_class,
                                        .val_per_class = request->val_per_class,
                                        .correlation = request->correlation};
    const ImportOptions import = {.classes = (int)request->classes,
                                  .threads = (int)request->threads,
                                  .progress = show_progress,
                                  .progress_ctx = &progress,
                                  .made = &made,
                                  .synthetic = &synthetic};
    const double start = clock_seconds();
    Status status = request->importer->run(request->src, request->dst, &import, err);
    if (progress.terminal)
        terminal_clear(stderr);
    RETURN_IF(status);
    return print_result(request->dst, made, clock_seconds() - start, err);
}

/* Of several processes that mpirun started, rank 0 imports, with all processors that they have together; the others
 * wait for its result. */
static Status import_once(const Request *request, Error *err) {
    Comm comm;
    cpu_set_t before, launcher;
    const int bound = processors_of_launcher(&launcher);
    const int known = sched_getaffinity(0, sizeof before, &before) == 0;
    RETURN_IF(comm_init(&comm, err));
    if (known)
        sched_setaffinity(0, sizeof before, bound ? &launcher : &before);
    Status status = comm_agree_asleep(&comm, comm.rank == 0 ? import_here(request, err) : STATUS_OK, err);
    comm_say_failure(&comm, status, err);
    comm_finalize(&comm);
    return status;
}

/* Below the options: what each importer takes and makes. */
static void print_importers(FILE *out) {
    char text[512];
    fputs("datasets:\n", out);
    for (const Importer *const *importer = importers; *importer; importer++) {
        const char *source = (*importer)->source;
        snprintf(text, sizeof text, "%s%s%s", (*importer)->help, source ? "; SRC: " : "", source ? source : "");
        fprintf(out, "  %-16s ", (*importer)->name);
        options_wrap(out, text, 19, 19);
    }
}

Status command_import(int argc, char **argv, Error *err) {
    Request request = {.size = 32, .train_per_class = 200, .val_per_class = 50, .seed = 1, .correlation = 0.5};
    const Option options[] = {
        {"classes", "n", OPTION_INTEGER, &request.classes, "keep the first n classes; synthetic: make n (10)"},
        {"threads", "n", OPTION_INTEGER, &request.threads, "decoding threads (all cores)"},
        {"size", "pixels", OPTION_INTEGER, &request.size, "synthetic: image side (32)"},
        {"train-per-class", "n", OPTION_INTEGER, &request.train_per_class,
         "synthetic: train images of each class (200)"},
        {"val-per-class", "n", OPTION_INTEGER, &request.val_per_class, "synthetic: val images of each class (50)"},
        {"correlation", "share", OPTION_REAL, &request.correlation,
         "synthetic: share of train images on their class's background (0.5); val is independent of the class"},
        {"seed", "n", OPTION_INTEGER, &request.seed, "synthetic: seed (1)"},
    };
    char with_source[256], usage[512];
    size_t used;
    list_names(with_source, sizeof with_source, "|", "|", true);
    used = (size_t)snprintf(usage, sizeof usage, "import %s SRC DST", with_source);
    for (const Importer *const *importer = importers; *importer; importer++)
        if (!(*importer)->source && used < sizeof usage)
            used += (size_t)snprintf(usage + used, sizeof usage - used, ", or: excon import %s DST", (*importer)->name);
    const OptionTable table = OPTION_TABLE(usage, options, 2, 3);
    OptionList positional;
    int help;
    RETURN_IF(options_parse(&table, argc, argv, &positional, &help, err));
    if (help) {
        if (comm_launched_rank() <= 0)
            print_importers(stdout);
        return STATUS_OK;
    }
    RETURN_IF(choose_paths(&request, &positional, err));
    RETURN_IF(check_range("classes", request.classes, DATASET_MAX_CLASSES, err));
    RETURN_IF(check_range("threads", request.threads, 1024, err));
    RETURN_IF(check_range("size", request.size, DATASET_MAX_SIDE, err));

    return comm_launched() ? import_once(&request, err) : import_here(&request, err);
}
