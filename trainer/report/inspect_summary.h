/* One line, or one JSON object, about an HDF5 file: of a checkpoint its position and model, of a shard or an index the
 * data, of any other file how many datasets it holds. */
#ifndef EXCON_TRAINER_INSPECT_SUMMARY_H
#define EXCON_TRAINER_INSPECT_SUMMARY_H

#include "io/inspect/tree.h"
#include "io/records/records.h"

typedef enum FileKind { FILE_OTHER, FILE_CHECKPOINT, FILE_SHARD, FILE_INDEX } FileKind;

/* What the items of a file tell; start with zeros and give it every item. */
typedef struct FileFacts {
    int has_cursor, has_images, has_shards;
    int64_t datasets, bytes;
    int64_t images[3];         /* of a shard: how many, height, width */
    int64_t classes, sides[2]; /* of an index; sides are height and width */
    int64_t train, val;
    char kind[TREE_MAX_TEXT], split[TREE_MAX_TEXT];
} FileFacts;

void facts_add(FileFacts *facts, const TreeItem *item);
FileKind facts_kind(const FileFacts *facts);
/* "checkpoint", "shard", "index" or "hdf5" */
const char *facts_kind_name(const FileFacts *facts);

/* Reads the file, a checkpoint with all its checks, and prints the line (`json` NULL) or adds the object. */
Status summary_of_file(const char *path, Json *json, Error *err);

/* The same of every .h5 file in a folder, or of a run's checkpoints. A file that cannot be read has its message for a
 * line; the first such failure is returned. STATUS_NO_INPUT when there is none. */
Status summary_of_folder(const char *path, Json *json, Error *err);

#endif
