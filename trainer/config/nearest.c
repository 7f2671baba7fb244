#include "trainer/config/nearest.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

enum { LONGEST = 63 };

static int smallest(int a, int b) {
    return a < b ? a : b;
}

static int same(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Optimal string alignment distance; three rolling rows over b. */
static int edit_distance(const char *a, int length_a, const char *b, int length_b) {
    int rows[3][LONGEST + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= length_b; j++)
        above[j] = j;
    for (int i = 1; i <= length_a; i++) {
        row[0] = i;
        for (int j = 1; j <= length_b; j++) {
            int replaced = above[j - 1] + !same(a[i - 1], b[j - 1]);
            row[j] = smallest(replaced, smallest(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                row[j] = smallest(row[j], before[j - 2] + 1);
        }
        int *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[length_b];
}

void nearest_offer(Nearest *nearest, const char *name) {
    size_t wanted = strnlen(nearest->wanted, LONGEST + 1), known = strnlen(name, LONGEST + 1);
    if (wanted == 0 || wanted > LONGEST || known > LONGEST)
        return;
    int distance = edit_distance(nearest->wanted, (int)wanted, name, (int)known);
    int allowed = (int)wanted / 3 > 1 ? (int)wanted / 3 : 1;
    if (distance > allowed || (nearest->best && distance >= nearest->distance))
        return;
    nearest->best = name;
    nearest->distance = distance;
}
