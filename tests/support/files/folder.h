/* Temporary folders for tests: made, removed with everything in them, and the paths of files there. */
#ifndef EXCON_TESTS_FOLDER_H
#define EXCON_TESTS_FOLDER_H

enum { FOLDER_BYTES = 512, PATH_BYTES = FOLDER_BYTES + 256 };

/* A new, empty folder under $TMPDIR or /tmp; ends the program when there can be none. */
void folder_make(char path[FOLDER_BYTES]);
/* Removes the folder and everything in it; 0, or -1 when something is left. */
int folder_remove(const char *path);
/* "folder/name" in `buffer`, which is returned. */
const char *folder_join(char buffer[PATH_BYTES], const char *folder, const char *name);

/* The same for each test of a group: cmocka's setup and teardown, between which `*state` is a Folder. */
typedef struct Folder {
    char path[FOLDER_BYTES];
    char **names; /* what folder_file() gave out */
    int name_count;
} Folder;

int folder_setup(void **state);
int folder_teardown(void **state);
#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

/* PATH/NAME; the result belongs to the folder. */
const char *folder_file(Folder *folder, const char *name);

#endif
