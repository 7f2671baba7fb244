/* Miniature datasets in the official layouts, made up on the spot. */
#ifndef EXCON_TESTS_LAYOUT_H
#define EXCON_TESTS_LAYOUT_H

#include <stdint.h>

enum {
    LAYOUT_CLASSES = 3,
    LAYOUT_TRAIN = 20,
    LAYOUT_VAL = 4,
    LAYOUT_SIDE = 24,
    CIFAR_CLASSES = 5,
    CIFAR_TRAIN = 33,
    CIFAR_VAL = 7
};

/* A JPEG of one colour (or grey level, when grey: then only rgb[0] counts). */
void jpeg_write(const char *path, int side, int grey, const uint8_t rgb[3]);

/* Colour of image `index` of sorted class `label`; every fourth image is grey. */
void tiny_colour(int label, int index, int is_val, uint8_t rgb[3]);
int tiny_is_grey(int index);

/* Tiny ImageNet's layout with LAYOUT_CLASSES classes; wnids.txt is not sorted, words.txt lacks the last class. */
void tiny_layout_write(const char *dir);

/* CIFAR-100's binary layout; pixel p of plane c of record i is cifar_pixel(i, c, p), its label i * 3 % CIFAR_CLASSES.
 */
void cifar_layout_write(const char *dir);
uint8_t cifar_pixel(int record, int plane, int pixel);

#endif
