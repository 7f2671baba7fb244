#include "trainer/report/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { CELLS_MAX = 24, CELLS_MIN = 6, ROW_BYTES = 512, COLUMNS_DEFAULT = 80 };

bool terminal_redraws(FILE *out) {
    const char *kind = getenv("TERM");
    return isatty(fileno(out)) && kind && *kind && strcmp(kind, "dumb") != 0;
}

int terminal_columns(FILE *out) {
    struct winsize size = {.ws_col = 0};
    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *text = getenv("COLUMNS");
    const int columns = text ? atoi(text) : 0;
    return columns > 0 ? columns : COLUMNS_DEFAULT;
}

void terminal_progress(FILE *out, double done, const char *head, const char *text, const char *optional) {
    /* The last column stays free: some terminals go to the next row once it is written. */
    const int room = terminal_columns(out) - 1;
    const int fixed = (int)(strlen(head) + strlen(text)) + 4; /* two brackets, two blanks */
    int left = room - fixed - (int)strlen(optional);
    if (left < CELLS_MIN) {
        optional = "";
        left = room - fixed;
    }
    const int cells = left > CELLS_MAX ? CELLS_MAX : left;
    char row[ROW_BYTES], bar[CELLS_MAX + 4] = "";
    if (cells >= CELLS_MIN) {
        const int full = !(done > 0) ? 0 : done < 1 ? (int)(done * cells) : cells;
        bar[0] = '[';
        memset(bar + 1, '#', (size_t)full);
        memset(bar + 1 + full, '.', (size_t)(cells - full));
        bar[cells + 1] = ']';
        bar[cells + 2] = ' ';
    }
    snprintf(row, sizeof row, "%s %s%s%s", head, bar, text, optional);
    fprintf(out, "\r\033[K%.*s", room > 0 ? room : 0, row);
    fflush(out);
}

void terminal_clear(FILE *out) {
    fputs("\r\033[K", out);
    fflush(out);
}
