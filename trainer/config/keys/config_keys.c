/* THE table of configuration keys: what is not here cannot be configured. Sections in the order a reader wants them. */
#include "trainer/config/keys/choices.h"
#include "trainer/config/keys/keys.h"

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define AT(field) offsetof(Config, field), sizeof(((Config *)0)->field)

/* Shorthands for the columns that a type leaves empty. */
#define ENUM(name, field, flags, names, official, recommended, help)                                                   \
    { name, KEY_ENUM, flags, AT(field), names, 0, 0, official, recommended, help }
#define BOOL(name, field, flags, official, recommended, help)                                                          \
    { name, KEY_BOOL, flags, AT(field), NULL, 0, 0, official, recommended, help }
#define TEXT(name, field, flags, official, help)                                                                       \
    { name, KEY_TEXT, flags, AT(field), NULL, 0, 0, official, NULL, help }
#define INTEGER(name, field, flags, min, max, official, help)                                                          \
    { name, KEY_INTEGER, flags, AT(field), NULL, min, max, official, NULL, help }
#define REAL(name, field, flags, min, max, official, recommended, help)                                                \
    { name, KEY_REAL, flags, AT(field), NULL, min, max, official, recommended, help }

enum { HASHED = KEY_HASHED, ABOVE = KEY_ABOVE, IDENTITY = KEY_IDENTITY, ORDER = KEY_ORDER, PATH = KEY_PATH };

#define NAME(SYMBOL, symbol, name) name,
static const char *const explain_methods[] = {EXPLAIN_METHODS(NAME) NULL};

const Key config_keys[] = {
    ENUM("profile", profile, IDENTITY, LIST("official", "recommended"), "official", "recommended",
         "defaults of the published code, or the ones we advise"),
    ENUM("method", method, HASHED | IDENTITY, LIST("ce", "simclr", "supcon", "excon", "exconb"), "excon", NULL,
         "training objective; exconb is excon with background rows"),
    INTEGER("seed", seed, HASHED | IDENTITY, 0, 9007199254740992.0, "1", "of weights, sample order and augmentation"),
    ENUM("backend", backend, 0, LIST("auto", "cpu", "cuda"), "auto", NULL, "auto: CUDA where built in and present"),
    ENUM("precision", precision, HASHED, LIST("auto", "f32", "bf16"), "f32", NULL,
         "of activations and products, parameters are always f32; auto: bf16 where every rank multiplies it faster"),

    TEXT("run.dir", run.dir, PATH, "",
         "run folder: resolved config, checkpoints, metrics, logs; {seed}, {method} or another key stands for its "
         "value"),

    TEXT("data.dir", data.dir, PATH, "", "dataset folder made by excon import"),
    INTEGER("data.classes", data.classes, HASHED | IDENTITY, 0, 1000000, "0", "first n classes only; 0 takes all"),
    REAL("data.holdout", data.holdout, HASHED | IDENTITY, 0, 0.5, "0", "0.05",
         "share of train kept apart to choose the best epoch"),
    ENUM("data.loader", data.loader, 0, LIST("auto", "stream", "memory", "device"), "auto", NULL,
         "auto: device or memory when the split fits data.device_mb or data.memory_mb"),
    INTEGER("data.memory_mb", data.memory_mb, 0, 1, 16777216, "2048",
            "MB of images that the ranks of a host hold: the split, or the cache of stream"),
    INTEGER("data.device_mb", data.device_mb, 0, 0, 16777216, "16384",
            "device memory that training images may take with CUDA, MiB per rank; 0: none"),
    INTEGER("data.prefetch", data.prefetch, 0, 1, 64, "4", "batches read ahead"),
    INTEGER("data.shuffle_window", data.shuffle_window, HASHED | ORDER, 1, 1048576, "64",
            "blocks (shard chunks) among which samples are shuffled"),

    {"model.encoder", KEY_CHOICE, HASHED | IDENTITY, AT(model.encoder), choices_encoder, 0, 0, "resnet50", NULL,
     "network for small images: 3x3 stride-1 stem, no max-pool"},
    INTEGER("model.width", model.width, HASHED | IDENTITY, 4, 1024, "64",
            "64: the published widths; others scale every layer"),
    INTEGER("model.projection", model.projection, HASHED | IDENTITY, 2, 4096, "128",
            "D: outputs of the projection head"),

    INTEGER("train.epochs", train.epochs, HASHED, 0, 100000, "200", "0 writes the initial checkpoint and stops"),
    INTEGER("train.batch", train.batch, HASHED | ORDER, 1, 1048576, "128",
            "images per step over all ranks (views not counted)"),
    INTEGER("train.max_steps", train.max_steps, 0, 0, 1e12, "0", "stops after so many steps; 0: no limit"),
    INTEGER("train.log_every", train.log_every, 0, 1, 1000000, "10", "steps per line of metrics.jsonl"),

    REAL("augment.scale_min", augment.scale_min, HASHED | ABOVE, 0, 1, "0.2", NULL, "smallest crop, share of the area"),
    REAL("augment.scale_max", augment.scale_max, HASHED | ABOVE, 0, 1, "1", NULL, "largest crop, share of the area"),
    REAL("augment.jitter_probability", augment.jitter_probability, HASHED, 0, 1, "0.8", NULL, "of colour jitter"),
    REAL("augment.brightness", augment.brightness, HASHED, 0, 1, "0.4", NULL, "jitter: factor in 1 -+ this"),
    REAL("augment.contrast", augment.contrast, HASHED, 0, 1, "0.4", NULL, "jitter: factor in 1 -+ this"),
    REAL("augment.saturation", augment.saturation, HASHED, 0, 1, "0.4", NULL, "jitter: factor in 1 -+ this"),
    REAL("augment.hue", augment.hue, HASHED, 0, 0.5, "0.1", NULL,
         "jitter: shift in -+ this, share of the colour circle"),
    REAL("augment.grey_probability", augment.grey_probability, HASHED, 0, 1, "0.2", NULL, "of turning grey"),
    REAL("augment.flip_probability", augment.flip_probability, HASHED, 0, 1, "0.5", NULL, "of a horizontal flip"),

    ENUM("explain.method", explain.method, HASHED, explain_methods, "gradcam", NULL,
         "where the saliency map comes from"),
    ENUM("explain.layer", explain.layer, HASHED, LIST("auto", "layer1", "layer2", "layer3", "layer4"), "auto", NULL,
         "stage whose last convolution is explained; auto: the last one for images of 64 and more, else layer2"),
    BOOL("explain.relu", explain.relu, HASHED, "false", NULL,
         "keep only positive evidence in the map (evaluation: signed)"),
    ENUM("explain.bn", explain.bn, HASHED, LIST("batch", "running"), "batch", "running",
         "batch norm statistics of the explanation passes"),
    BOOL("explain.update_running_stats", explain.update_running_stats, HASHED, "true", "false",
         "let those passes move the running statistics, integrated with every point; needs explain.bn: batch"),
    ENUM("explain.target", explain.target, HASHED, LIST("label", "predicted"), "label", NULL,
         "class that is explained"),
    REAL("explain.threshold", explain.threshold, HASHED, 0, 1, "0.5", NULL,
         "pixels above this of the 0..1 map are kept"),
    ENUM("explain.fill", explain.fill, HASHED, LIST("mean", "black"), "mean", NULL, "what masked pixels become"),
    ENUM("explain.source_view", explain.source_view, HASHED, LIST("standard", "random"), "standard", NULL,
         "view that is explained and masked"),
    INTEGER("explain.steps", explain.steps, HASHED, 1, 1000, "16", "points of the path of explain.method: integrated"),

    ENUM("select.rule", select.rule, HASHED, LIST("correct", "always", "never"), "correct", NULL,
         "when the masked image becomes view 1; correct: its predicted class equals the label"),

    ENUM("background.mode", background.mode, HASHED, LIST("none", "denominator", "class"), "none", NULL,
         "how background rows enter the loss; default denominator with method exconb"),
    ENUM("background.source", background.source, HASHED, LIST("rejected", "complement"), "rejected", NULL,
         "rejected masked images, or what the mask of such an image removed"),
    INTEGER("background.max", background.max, HASHED, 0, 1048576, "0",
            "images a step appends at most, over all ranks; 0: no limit"),

    REAL("loss.temperature", loss.temperature, HASHED | IDENTITY, 0.001, 100, "0.1", NULL, "T of the contrastive loss"),
    REAL("loss.base_temperature", loss.base_temperature, HASHED | IDENTITY, 0.001, 100, "0.07", NULL,
         "T0: the loss is scaled by T/T0"),

    ENUM("bn.scope", bn.scope, HASHED, LIST("global", "local"), "global", NULL,
         "statistics over all ranks, or per rank"),
    REAL("bn.momentum", bn.momentum, HASHED | ABOVE, 0, 1, "0.1", NULL,
         "weight of the new value in running statistics"),
    REAL("bn.eps", bn.eps, HASHED, 1e-10, 0.1, "1e-05", NULL, "added to the variance"),

    ENUM("classifier.schedule", classifier.schedule, HASHED, LIST("alternate", "joint"), "alternate", "joint",
         "a pass of its own after each epoch, or with every step on stop-gradient features"),
    ENUM("classifier.augment", classifier.augment, HASHED, LIST("none", "crop-flip"), "none", NULL,
         "images of the classifier's own pass"),

    INTEGER("start_epoch", start_epoch, HASHED, 0, 100000, "0",
            "first epoch (from 1) with masked views; 0: the first step"),

    ENUM("optim.name", optim.name, HASHED | IDENTITY, LIST("sgd", "lars"), "sgd", NULL,
         "lars: for large batches, each tensor's step in proportion to its length (You et al. 2017)"),
    REAL("optim.lr", optim.lr, HASHED, 0, 100, "0.5", NULL, "peak learning rate at the given batch"),
    REAL("optim.momentum", optim.momentum, HASHED, 0, 0.9999, "0.9", NULL, "without Nesterov"),
    REAL("optim.weight_decay", optim.weight_decay, HASHED, 0, 1, "0.0001", NULL,
         "on every parameter, BN and biases too; lars: not on those"),
    REAL("optim.trust", optim.trust, HASHED | ABOVE, 0, 1, "0.001", NULL,
         "lars: length of a tensor's step at learning rate 1, share of the tensor's length"),
    ENUM("optim.schedule", optim.schedule, HASHED, LIST("cosine", "constant"), "cosine", NULL,
         "cosine steps per epoch"),
    ENUM("optim.warmup", optim.warmup, HASHED, LIST("auto", "on", "off"), "auto", NULL, "auto: when train.batch > 256"),
    INTEGER("optim.warmup_epochs", optim.warmup_epochs, HASHED, 1, 10000, "10", "length of the warm-up"),
    REAL("optim.warmup_from", optim.warmup_from, HASHED, 0, 100, "0.01", NULL, "learning rate of its first step"),
    REAL("optim.lr_min_factor", optim.lr_min_factor, HASHED, 0, 1, "0.001", NULL, "cosine ends at optim.lr times this"),

    INTEGER("checkpoint.every_steps", checkpoint.every_steps, 0, 0, 1e12, "0", "0: at the end of each epoch only"),
    INTEGER("checkpoint.keep", checkpoint.keep, 0, 1, 100000, "3", "newest checkpoints kept, besides the best one"),

    REAL("watchdog.step_seconds", watchdog.step_seconds, 0, 0, 1e6, "900", NULL,
         "a rank silent for longer ends the job with exit code 81; 0: off"),
    INTEGER("guard.skip_max", guard.skip_max, 0, 0, 1000000, "5", "non-finite steps in a row that are skipped"),
    INTEGER("guard.rollback_max", guard.rollback_max, 0, 0, 1000, "2",
            "then returns to the newest checkpoint, so many times; then exit code 80"),

    INTEGER("eval.every_epochs", eval.every_epochs, 0, 0, 100000, "1", "epochs between validations; 0: none"),
    INTEGER("eval.batch", eval.batch, 0, 1, 1048576, "256", "images per step of evaluation over all ranks"),
    ENUM("eval.selection", eval.selection, 0, LIST("holdout", "val"), "val", "holdout",
         "split that chooses the best epoch; holdout needs data.holdout > 0"),

    INTEGER("comm.bucket_mb", comm.bucket_mb, 0, 1, 4096, "25", "MiB of gradients per all-reduce"),
    ENUM("comm.transport", comm.transport, 0, LIST("auto", "nccl", "mpi"), "auto", NULL,
         "between CUDA devices; auto: NCCL where built in, else mpi: through host memory, ranks may share a device"),
    REAL("comm.connect_seconds", comm.connect_seconds, ABOVE, 0, 86400, "300", NULL,
         "NCCL gives up connecting the ranks after so long"),

    ENUM("cuda.conv", cuda.conv, 0, LIST("auto", "cudnn", "gemm"), "auto", NULL,
         "convolutions on CUDA devices; auto: cuDNN where built in, else gemm: im2col and cuBLAS, for cross-checks"),
    BOOL("cuda.graphs", cuda.graphs, 0, "true", NULL,
         "record and replay the parts of a step that are the same every time (CUDA graphs)"),
};

const int config_key_count = sizeof config_keys / sizeof *config_keys;
