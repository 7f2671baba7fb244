/* Sheets of explained images: what is drawn where, and that the encoded file holds the picture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

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
    assert_int_equal(width, 3 * (CELL + GAP) + GAP);
    check(rgb, 255, 255, 255);
    check(pixel(rgb, width, 0, 0, 0, 0), 200, 100, 50);
    check(pixel(rgb, width, 1, 0, CELL - 1, CELL - 1), 200, 100, 50);
    /* Grey 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2, half of it, and half of the colour: 0 is blue, 1 is red. */
    check(pixel(rgb, width, 0, 1, 10, 0), 62, 62, 126);
    check(pixel(rgb, width, 0, 1, 10, CELL - 1), 126, 62, 62);
    check(pixel(rgb, width, 0, 1, 10, CELL / 2), 143, 190, 109); /* 8/15: red 0.633, green 1, blue 0.367 */
    /* Strictly above half of the range is kept: columns 8..15 of 0..15. */
    check(pixel(rgb, width, 0, 2, 20, CELL / 2 - 1), 128, 128, 128);
    check(pixel(rgb, width, 0, 2, 20, CELL / 2), 200, 100, 50);
    check(pixel(rgb, width, 1, 2, 20, 20), 128, 128, 128);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drawing), cmocka_unit_test(test_encoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
