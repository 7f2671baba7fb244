#include "io/import/source/listing.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { NAME_SHOWN = 80 };

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What other systems leave in folders that pass through them: ._NAME and .DS_Store of macOS and every other hidden
 * name, its __MACOSX, Thumbs.db and desktop.ini of Windows, @eaDir of a storage box. */
static bool is_leftover(const char *name) {
    static const char *const known[] = {"Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "Icon\r"};
    if (name[0] == '.')
        return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(name, known[i]) == 0)
            return true;
    return false;
}

static bool is_image(const char *name) {
    static const char *const endings[] = {"jpeg", "jpg", "png", "bmp", "gif", "webp", "tif", "tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return true;
    return false;
}

static bool is_among(const char *name, const char *const *names, int64_t count) {
    return count > 0 && bsearch(&name, names, (size_t)count, sizeof *names, compare_names) != NULL;
}

static bool is_folder(const char *parent, const struct dirent *item) {
    char path[PATH_MAX + 256];
    struct stat info;
    if (item->d_type != DT_UNKNOWN && item->d_type != DT_LNK)
        return item->d_type == DT_DIR;
    snprintf(path, sizeof path, "%s/%s", parent, item->d_name);
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Goes through `path`, counting what is wanted (images, or folders) and not among `names`; `first` gets the first in
 * the alphabet. STATUS_NO_INPUT when there is no such folder, STATUS_IO when it cannot be read to its end. */
static Status find_others(const char *path, bool folders, const char *const *names, int64_t count, int64_t *others,
                          char first[NAME_SHOWN], Error *err) {
    DIR *folder = opendir(path);
    if (!folder)
        return error_set(err, STATUS_NO_INPUT, "%s: %s; extract the official archive again", path,
                         errno == ENOENT ? "no such folder" : strerror(errno));
    *others = 0;
    errno = 0;
    for (struct dirent *item; (item = readdir(folder)); errno = 0) {
        const char *name = item->d_name;
        if (is_leftover(name) || !(folders ? is_folder(path, item) : is_image(name)) || is_among(name, names, count))
            continue;
        if (++*others == 1 || strcmp(name, first) < 0)
            snprintf(first, NAME_SHOWN, "%.*s", NAME_SHOWN - 1, name);
    }
    const int code = errno;
    closedir(folder);
    return code ? error_set(err, STATUS_IO, "cannot read %s: %s", path, strerror(code)) : STATUS_OK;
}

Status listing_check(const char *folder, const char *list, const char **names, int64_t count, Error *err) {
    char first[NAME_SHOWN] = "";
    int64_t others = 0;
    if (count > 0)
        qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int64_t i = 1; i < count; i++)
        if (strcmp(names[i], names[i - 1]) == 0)
            return error_set(err, STATUS_DATA, "%s: %s is listed twice", list, names[i]);
    RETURN_IF(find_others(folder, false, names, count, &others, first, err));
    if (others > 0)
        return error_set(err, STATUS_DATA,
                         "%s: holds %lld image%s that %s does not list, %s among them: is the list cut short, or were "
                         "images added? Mend the list, or move them away",
                         folder, (long long)others, others == 1 ? "" : "s", list, first);
    return STATUS_OK;
}

Status listing_check_folders(const char *parent, const char *list, char *const *names, int64_t count, Error *err) {
    char first[NAME_SHOWN] = "";
    int64_t others = 0;
    RETURN_IF(find_others(parent, true, (const char *const *)names, count, &others, first, err));
    if (others > 0)
        return error_set(
            err, STATUS_DATA,
            "%s: holds %lld folder%s that %s does not list, %s among them: is the list cut short? Mend the "
            "list, or move them away",
            parent, (long long)others, others == 1 ? "" : "s", list, first);
    return STATUS_OK;
}
