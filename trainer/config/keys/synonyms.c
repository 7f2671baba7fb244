/* What other trainers call our keys. Edit distance cannot know that optim.learning_rate means optim.lr. */
#include <string.h>
#include <strings.h>

#include "trainer/config/keys/keys.h"

typedef struct Synonym {
    const char *name; /* last part of a key's name, or a section */
    const char *key;  /* a key of the table, or a section */
} Synonym;

static const Synonym synonyms[] = {
    {"learning_rate", "optim.lr"},
    {"learningrate", "optim.lr"},
    {"base_lr", "optim.lr"},
    {"initial_lr", "optim.lr"},
    {"init_lr", "optim.lr"},
    {"max_lr", "optim.lr"},
    {"min_lr", "optim.lr_min_factor"},
    {"eta_min", "optim.lr_min_factor"},
    {"wd", "optim.weight_decay"},
    {"l2", "optim.weight_decay"},
    {"scheduler", "optim.schedule"},
    {"lr_schedule", "optim.schedule"},
    {"lr_scheduler", "optim.schedule"},
    {"optimizer", "optim"},
    {"optimiser", "optim"},
    {"batch_size", "train.batch"},
    {"batchsize", "train.batch"},
    {"global_batch", "train.batch"},
    {"num_epochs", "train.epochs"},
    {"n_epochs", "train.epochs"},
    {"max_epochs", "train.epochs"},
    {"max_iters", "train.max_steps"},
    {"num_steps", "train.max_steps"},
    {"log_interval", "train.log_every"},
    {"print_freq", "train.log_every"},
    {"training", "train"},
    {"random_seed", "seed"},
    {"manual_seed", "seed"},
    {"device", "backend"},
    {"accelerator", "backend"},
    {"dtype", "precision"},
    {"amp", "precision"},
    {"fp16", "precision"},
    {"bf16", "precision"},
    {"objective", "method"},
    {"algorithm", "method"},
    {"output_dir", "run.dir"},
    {"out_dir", "run.dir"},
    {"save_dir", "run.dir"},
    {"save_folder", "run.dir"},
    {"log_dir", "run.dir"},
    {"output", "run.dir"},
    {"data_dir", "data.dir"},
    {"data_path", "data.dir"},
    {"data_folder", "data.dir"},
    {"data_root", "data.dir"},
    {"dataset", "data.dir"},
    {"root", "data.dir"},
    {"num_classes", "data.classes"},
    {"n_classes", "data.classes"},
    {"n_cls", "data.classes"},
    {"val_split", "data.holdout"},
    {"validation_split", "data.holdout"},
    {"num_workers", "data.prefetch"},
    {"workers", "data.prefetch"},
    {"arch", "model.encoder"},
    {"architecture", "model.encoder"},
    {"backbone", "model.encoder"},
    {"network", "model.encoder"},
    {"feat_dim", "model.projection"},
    {"proj_dim", "model.projection"},
    {"embedding_dim", "model.projection"},
    {"temp", "loss.temperature"},
    {"tau", "loss.temperature"},
    {"save_freq", "checkpoint.every_steps"},
    {"save_every", "checkpoint.every_steps"},
    {"save_steps", "checkpoint.every_steps"},
    {"sync_bn", "bn.scope"},
    {"syncbn", "bn.scope"},
};

const char *key_synonym(const char *name) {
    const char *dot = strrchr(name, '.'), *last = dot ? dot + 1 : name;
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strcasecmp(synonyms[i].name, last) == 0)
            return synonyms[i].key;
    return NULL;
}
