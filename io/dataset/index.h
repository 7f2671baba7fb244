/* index.h5 of a dataset folder.
 *
 * Root attributes: schema, kind, classes, height, width, has_boxes, has_masks, mean [3], std [3], plan. Dataset
 * /class_names. Per split a group /train, /val with attribute count and datasets rows, chunk_rows (i64) and sha256
 * (strings), one entry per shard; file names follow from split and number, so an index cannot point elsewhere. Optional
 * dataset source (strings): what each shard's pictures were, see ShardInfo. */
#ifndef EXCON_IO_INDEX_H
#define EXCON_IO_INDEX_H

#include "io/dataset/dataset.h"

/* "SPLIT-NNNN.h5" */
void index_shard_name(Split split, int number, char file[64]);

/* Writes dataset->dir/index.h5 atomically from everything but the labels. */
Status index_write(const Dataset *dataset, Error *err);

/* Fills everything but labels and mutex from dataset->dir/index.h5, for dataset_close(). A failure has closed
 * `dataset`, mutex included. */
Status index_read(Dataset *dataset, Error *err);

#endif
