/* excon bench step|loss|loader|ops: median seconds on this machine, on synthetic data; one JSON object with --json. */
#include <stdio.h>
#include <string.h>

#include "trainer/bench/bench.h"
#include "trainer/cli/commands/commands.h"
#include "trainer/cli/options.h"

Status command_bench(int argc, char **argv, Error *err) {
    BenchOptions o = {.model = "resnet18",
                      .width = 64,
                      .size = 64,
                      .batch = 32,
                      .method = "excon",
                      .precision = "bf16",
                      .profile = "recommended",
                      .backend = "auto",
                      .rows = 16384,
                      .dim = 128,
                      .steps = 5};
    OptionList positional, sets = {0};
    const Option options[] = {
        {"model", "NAME", OPTION_TEXT, &o.model, "step: as model.encoder (resnet18)"},
        {"width", "N", OPTION_INTEGER, &o.width, "step, ops: as model.width (64)"},
        {"size", "N", OPTION_INTEGER, &o.size, "step, loader, ops: image side (64)"},
        {"batch", "N", OPTION_INTEGER, &o.batch, "step, loader, ops: images, all ranks together (32)"},
        {"method", "NAME", OPTION_TEXT, &o.method, "step: ce|simclr|supcon|excon|exconb (excon)"},
        {"profile", "NAME", OPTION_TEXT, &o.profile, "step: official|recommended (recommended)"},
        {"precision", "auto|f32|bf16", OPTION_TEXT, &o.precision, "step, ops (bf16)"},
        {"backend", "auto|cpu|cuda", OPTION_TEXT, &o.backend, "(auto)"},
        {"rows", "N", OPTION_INTEGER, &o.rows, "loss: rows of all ranks (16384); ops: at most 4096"},
        {"dim", "N", OPTION_INTEGER, &o.dim, "loss: embedding size (128)"},
        {"gemm", "N", OPTION_INTEGER, &o.gemm, "ops: side of the reference product (1024; CUDA: 8192)"},
        {"data", "DIR", OPTION_TEXT, &o.data, "loader: dataset folder (a temporary synthetic one)"},
        {"steps", "N", OPTION_INTEGER, &o.steps, "timed repetitions, after one warm-up (5)"},
        {"mark-last", NULL, OPTION_FLAG, &o.mark_last, "step: ncu --profile-from-start off sees the last one alone"},
        {"set", "key=value", OPTION_REPEATED, &sets, "override a key of the configuration"},
        {"json", NULL, OPTION_FLAG, &o.json, "one JSON object"},
    };
    const OptionTable table = OPTION_TABLE("bench step|loss|loader|ops [--option value]... [--json]", options, 1, 1);
    OPTIONS_PARSE(&table, argc, argv, &positional, err);
    if (o.steps < 1 || o.batch < 1 || o.rows < 2 || o.dim < 1 || o.size < 8)
        return error_set(err, STATUS_USAGE,
                         "--steps, --batch, --dim must be positive, --rows 2 or more, --size 8 or more");
    o.sets = sets.items;
    o.set_count = sets.count;
    return bench_run(positional.items[0], &o, err);
}
