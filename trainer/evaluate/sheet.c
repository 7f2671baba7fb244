#include "trainer/evaluate/sheet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 4, GAP = 4, SMALLEST = 64, GREY = 128 };

Status sheet_init(Sheet *sheet, int side, Error *err) {
    const size_t px = (size_t)side * (size_t)side;
    *sheet =
        (Sheet){.side = side, .images = malloc(SHEET_ROWS * px * 3), .maps = malloc(SHEET_ROWS * px * sizeof(float))};
    if (sheet->images && sheet->maps)
        return STATUS_OK;
    sheet_free(sheet);
    return error_set(err, STATUS_SYSTEM, "no memory for a sheet of explained images");
}

void sheet_free(Sheet *sheet) {
    free(sheet->images);
    free(sheet->maps);
    *sheet = (Sheet){0};
}

static uint8_t byte_of(double share) {
    return (uint8_t)(255 * (share > 0 ? share < 1 ? share : 1 : 0) + 0.5);
}

/* Blue, green, red as `value` goes from 0 to 1. */
static double heat(double value, int channel) {
    static const double centre[3] = {3, 2, 1};
    return 1.5 - fabs(4 * value - centre[channel]);
}

/* The image's grey, half of it, under the colour of the map. */
static void paint_map(const uint8_t *pixel, double map, uint8_t out[3]) {
    const double grey = (0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]) / 255;
    for (int c = 0; c < 3; c++) {
        const double hot = heat(map, c);
        out[c] = byte_of(0.5 * grey + 0.5 * (hot < 0 ? 0 : hot > 1 ? 1 : hot));
    }
}

/* One pixel of a column. */
static void paint(int column, const uint8_t *pixel, double map, double threshold, uint8_t out[3]) {
    const int kept = map > threshold;
    if (column == 1)
        paint_map(pixel, map, out);
    else if (column == 2)
        memset(out, kept ? 255 : 0, 3);
    else if (column == 0 || kept)
        memcpy(out, pixel, 3);
    else
        memset(out, GREY, 3);
}

typedef struct Range {
    float low, high;
} Range;

static Range range_of(const float *map, int px) {
    Range range = {map[0], map[0]};
    for (int p = 1; p < px; p++) {
        range.low = fminf(range.low, map[p]);
        range.high = fmaxf(range.high, map[p]);
    }
    return range;
}

Status sheet_draw(const Sheet *sheet, double threshold, uint8_t **rgb, int *height, int *width, Error *err) {
    const int side = sheet->side, factor = (SMALLEST + side - 1) / side, cell = side * factor;
    *width = COLUMNS * (cell + GAP) + GAP;
    *height = sheet->rows * (cell + GAP) + GAP;
    const size_t bytes = (size_t)*width * (size_t)*height * 3;
    *rgb = malloc(bytes);
    if (!*rgb)
        return error_set(err, STATUS_SYSTEM, "no memory for a sheet of explained images");
    memset(*rgb, 255, bytes);
    for (int row = 0; row < sheet->rows; row++) {
        const uint8_t *image = sheet->images + (size_t)row * (size_t)(side * side) * 3;
        const float *map = sheet->maps + (size_t)row * (size_t)(side * side);
        const Range range = range_of(map, side * side);
        for (int column = 0; column < COLUMNS; column++)
            for (int at = 0; at < cell * cell; at++) {
                const int y = at / cell, x = at % cell, from = y / factor * side + x / factor;
                const int top = GAP + row * (cell + GAP) + y, left = GAP + column * (cell + GAP) + x;
                const double scaled = (map[from] - range.low) / (range.high - range.low + 1e-8f);
                paint(column, image + 3 * from, scaled, threshold,
                      *rgb + 3 * ((size_t)top * (size_t)*width + (size_t)left));
            }
    }
    return STATUS_OK;
}
