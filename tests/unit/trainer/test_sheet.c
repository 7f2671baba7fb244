/* Sheets of explained images: what is drawn where, and that the encoded file holds the picture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "io/images/encode.h"
#include "io/images/jpeg.h"
#include "trainer/evaluate/sheet.h"

enum { SIDE = 16, CELL = 64, GAP = 4 };

static const uint8_t *pixel(const uint8_t *rgb, int width, int row, int column, int y, int x) {
    return rgb +
           3 * ((size_t)(GAP + row * (CELL + GAP) + y) * (size_t)width + (size_t)(GAP + column * (CELL + GAP) + x));
}

static void check(const uint8_t *at, int red, int green, int blue) {
    assert_int_equal(at[0], red);
    assert_int_equal(at[1], green);
    assert_int_equal(at[2], blue);
}

/* Two images of one colour; the map of the first rises from -3 on the left to 12 on the right, the second's is flat. */
static void draw(uint8_t **rgb, int *height, int *width) {
    Sheet sheet;
    Error err;
    assert_int_equal(sheet_init(&sheet, SIDE, &err), STATUS_OK);
    sheet.rows = 2;
    for (int i = 0; i < 2 * SIDE * SIDE; i++) {
        sheet.images[3 * i] = 200;
        sheet.images[3 * i + 1] = 100;
        sheet.images[3 * i + 2] = 50;
        sheet.maps[i] = i < SIDE * SIDE ? (float)(i % SIDE) - 3 : 7;
    }
    assert_int_equal(sheet_draw(&sheet, 0.5, rgb, height, width, &err), STATUS_OK);
    sheet_free(&sheet);
}

static void test_drawing(void **state) {
    (void)state;
    uint8_t *rgb;
    int height, width;
    draw(&rgb, &height, &width);
    assert_int_equal(height, 2 * (CELL + GAP) + GAP);
    assert_int_equal(width, 4 * (CELL + GAP) + GAP);
    check(rgb, 255, 255, 255);
    check(pixel(rgb, width, 0, 0, 0, 0), 200, 100, 50);
    check(pixel(rgb, width, 1, 0, CELL - 1, CELL - 1), 200, 100, 50);
    /* Grey 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2, half of it, and half of the colour: 0 is blue, 1 is red. */
    check(pixel(rgb, width, 0, 1, 10, 0), 62, 62, 126);
    check(pixel(rgb, width, 0, 1, 10, CELL - 1), 126, 62, 62);
    check(pixel(rgb, width, 0, 1, 10, CELL / 2), 143, 190, 109); /* 8/15: red 0.633, green 1, blue 0.367 */
    /* Strictly above half of the range is kept: columns 8..15 of 0..15. */
    check(pixel(rgb, width, 0, 2, 20, CELL / 2 - 1), 0, 0, 0);
    check(pixel(rgb, width, 0, 2, 20, CELL / 2), 255, 255, 255);
    check(pixel(rgb, width, 1, 2, 20, 20), 0, 0, 0);
    check(pixel(rgb, width, 0, 3, 20, CELL / 2 - 1), 128, 128, 128);
    check(pixel(rgb, width, 0, 3, 20, CELL / 2), 200, 100, 50);
    check(pixel(rgb, width, 1, 3, 20, 20), 128, 128, 128);
    free(rgb);
}

static void test_encoding(void **state) {
    (void)state;
    uint8_t *rgb, *file, *back;
    int height, width, read_height, read_width;
    size_t size;
    Error err;
    draw(&rgb, &height, &width);
    assert_int_equal(image_encode_jpeg(rgb, height, width, 90, &file, &size, &err), STATUS_OK);
    assert_int_equal(jpeg_size("sheet", file, size, &read_height, &read_width, &err), STATUS_OK);
    assert_int_equal(read_height, height);
    assert_int_equal(read_width, width);
    back = malloc((size_t)height * (size_t)width * 3);
    assert_int_equal(jpeg_decode("sheet", file, size, height, width, back, &err), STATUS_OK);
    double sum = 0;
    for (int i = 0; i < height * width * 3; i++)
        sum += abs(back[i] - rgb[i]);
    assert_true(sum / (height * width * 3) < 3);
    free(back);
    free(file);
    free(rgb);
}

/* A number of four bytes, big-endian. */
static size_t number(const uint8_t *at) {
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

/* The data of the chunk at *at, which has that name, size and a right CRC; *at goes behind it. */
static const uint8_t *chunk(const uint8_t **at, const char *name, size_t *size) {
    const uint8_t *data = *at + 8;
    *size = number(*at);
    assert_memory_equal(*at + 4, name, 4);
    assert_int_equal(number(data + *size), crc32(0, *at + 4, (uInt)(*size + 4)));
    *at = data + *size + 4;
    return data;
}

/* Every pixel comes back from the PNG, by a reader of this test's own. */
static void test_png(void **state) {
    (void)state;
    uint8_t *rgb, *file;
    int height, width;
    size_t size, n;
    Error err;
    draw(&rgb, &height, &width);
    assert_int_equal(image_encode_png(rgb, height, width, &file, &size, &err), STATUS_OK);
    assert_memory_equal(file, "\x89PNG\r\n\x1A\n", 8);
    const uint8_t *at = file + 8, *head = chunk(&at, "IHDR", &n);
    assert_int_equal(n, 13);
    assert_int_equal(number(head), width);
    assert_int_equal(number(head + 4), height);
    assert_memory_equal(head + 8, "\x08\x02\0\0\0", 5);
    const uint8_t *packed = chunk(&at, "IDAT", &n);
    const size_t row = (size_t)width * 3;
    uLongf raw = (uLongf)((size_t)height * (row + 1));
    uint8_t *rows = malloc(raw);
    assert_int_equal(uncompress(rows, &raw, packed, (uLong)n), Z_OK);
    assert_int_equal(raw, (size_t)height * (row + 1));
    for (size_t y = 0; y < (size_t)height; y++) {
        uint8_t *line = rows + y * (row + 1);
        assert_int_equal(line[0], 2); /* differences from the row above */
        for (size_t x = 1; x <= row && y > 0; x++)
            line[x] = (uint8_t)(line[x] + (line - row - 1)[x]);
        assert_memory_equal(line + 1, rgb + y * row, row);
    }
    chunk(&at, "IEND", &n);
    assert_int_equal(n, 0);
    assert_int_equal(at - file, size);
    free(rows);
    free(file);
    free(rgb);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drawing), cmocka_unit_test(test_encoding),
                                       cmocka_unit_test(test_png)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
