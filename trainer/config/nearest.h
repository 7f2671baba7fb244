/* "Did you mean ...?": the known name closest to a mistyped one. */
#ifndef EXCON_TRAINER_NEAREST_H
#define EXCON_TRAINER_NEAREST_H

/* Running search: start with {wanted, NULL, 0}, offer every known name, then read `best`. */
typedef struct Nearest {
    const char *wanted;
    const char
        *best; /* NULL when nothing is close: at most a third of the wanted name's characters, and one at least */
    int distance;
} Nearest;

/* Edit distance (insert, delete, replace, swap of neighbours), case-insensitive. Strings longer than 63 characters are
 * never close. The first of equally near names wins. */
void nearest_offer(Nearest *nearest, const char *name);

#endif
