/* Walking through a file. See h5_walk.h. The library iterates by callbacks, whose failure it passes on as a number: the
 * status and the message travel in Place. */
#include "io/hdf5/h5_walk.h"

#include <stdio.h>
#include <string.h>

#include "io/hdf5/h5_library.h"

enum { MAX_OBJECTS = 1 << 18 };

typedef struct Place {
    const H5Walk *walk;
    char path[H5_PATH_BYTES]; /* of the object in hand, "" at the root */
    int depth;
    int objects;
    Status status;
    Error *err;
} Place;

static herr_t end_with(Place *place, Status status) {
    place->status = status;
    return status == STATUS_OK ? 0 : -1;
}

static Status refuse(const Place *place, const char *why) {
    return error_set(place->err, STATUS_DATA, "%s: /%.340s %s", place->walk->file, place->path, why);
}

static herr_t visit_attribute(hid_t object, const char *name, const H5A_info_t *info, void *ctx) {
    Place *place = ctx;
    char path[2 * H5_PATH_BYTES];
    (void)info;
    snprintf(path, sizeof path, "%s@%.500s", place->path, name);
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    const Status status = place->walk->attribute(place->walk->ctx, path, attribute, place->err);
    if (attribute >= 0)
        H5Aclose(attribute);
    return end_with(place, status);
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx);

/* Attributes and, of a group, members of the object at place->path. */
static Status visit_below(Place *place, hid_t object, bool is_group) {
    herr_t result = 0;
    if (place->walk->attribute)
        result = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, place);
    if (result >= 0 && is_group)
        result = H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, place);
    if (result >= 0 || place->status != STATUS_OK)
        return place->status;
    return place->path[0]
               ? refuse(place, "cannot be listed: the file is damaged")
               : error_set(place->err, STATUS_DATA, "%s cannot be listed: the file is damaged", place->walk->file);
}

static Status visit_object(Place *place, hid_t object) {
    const H5I_type_t type = H5Iget_type(object);
    const H5Member member = {.path = place->path,
                             .kind = type == H5I_GROUP     ? H5_GROUP
                                     : type == H5I_DATASET ? H5_DATASET
                                                           : H5_OBJECT,
                             .object = object};
    RETURN_IF(place->walk->member(place->walk->ctx, &member, place->err));
    if (type == H5I_DATATYPE || (type != H5I_GROUP && !place->walk->attribute))
        return STATUS_OK;
    if (place->depth >= place->walk->depth)
        return refuse(place, "is nested too deeply");
    place->depth++;
    const Status status = visit_below(place, object, type == H5I_GROUP);
    place->depth--;
    return status;
}

/* The object, or the link that is not followed, at place->path. */
static Status visit_here(Place *place, hid_t group, const char *name, H5L_type_t link) {
    if (++place->objects > MAX_OBJECTS)
        return error_set(place->err, STATUS_DATA, "%s holds more than %d objects, each counted as often as it is named",
                         place->walk->file, MAX_OBJECTS);
    if (link != H5L_TYPE_HARD) {
        const H5Member member = {.path = place->path, .kind = H5_LINK, .object = -1};
        return place->walk->member(place->walk->ctx, &member, place->err);
    }
    const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0)
        return refuse(place, "cannot be opened: the file is damaged");
    const Status status = visit_object(place, object);
    H5Oclose(object);
    return status;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *ctx) {
    Place *place = ctx;
    const size_t length = strlen(place->path), room = sizeof place->path - length;
    const int n = snprintf(place->path + length, room, "%s%s", length ? "/" : "", name);
    const Status status =
        n < 0 || (size_t)n >= room ? refuse(place, "is nested too deeply") : visit_here(place, group, name, info->type);
    place->path[length] = 0;
    return end_with(place, status);
}

Status h5_walk(H5Handle file, const H5Walk *walk, Error *err) {
    Place place = {.walk = walk, .err = err};
    return visit_below(&place, file, true);
}
