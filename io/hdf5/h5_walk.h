/* All that an HDF5 file holds, object by object. The file may be foreign: no link is followed but hard ones, depth and
 * number of objects are bounded, so that groups which contain themselves, or each other under many names, end it. */
#ifndef EXCON_IO_H5_WALK_H
#define EXCON_IO_H5_WALK_H

#include "io/hdf5/h5_handle.h"
#include "kernels/base/status.h"

typedef enum H5Kind {
    H5_GROUP,
    H5_DATASET,
    H5_LINK,  /* soft, external or of a kind that another program defines; not followed */
    H5_OBJECT /* a named type */
} H5Kind;

typedef struct H5Member {
    const char *path; /* "model/conv.weight", valid during the call like the handle */
    H5Kind kind;
    H5Handle object; /* negative: a link */
} H5Member;

typedef struct H5Walk {
    const char *file; /* its name for messages */
    int depth;        /* of groups within groups that is allowed, at most */
    /* Called for each object, groups before their members, in name order. A failure ends the walk. */
    Status (*member)(void *ctx, const H5Member *member, Error *err);
    /* Called for each attribute of the root ("@name") and of each object ("model/conv.weight@name"), before the
     * object's members; NULL: attributes are passed over. */
    Status (*attribute)(void *ctx, const char *path, H5Handle attribute, Error *err);
    void *ctx;
} H5Walk;

/* STATUS_DATA when the file is damaged, nested too deeply or holds more objects than any of ours; or what a callback
 * returned. */
Status h5_walk(H5Handle file, const H5Walk *walk, Error *err);

#endif
