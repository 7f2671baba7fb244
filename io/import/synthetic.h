/* Pictures of the synthetic dataset: one object on a textured background.
 *
 * The class is the pair (shape, pattern) of the object; place, size, turn and all colours are random, so neither colour
 * nor position gives it away. The background is one of `classes` texture families, one per class. */
#ifndef EXCON_IO_SYNTHETIC_H
#define EXCON_IO_SYNTHETIC_H

#include <stdint.h>

#include "kernels/base/philox.h"

enum { SYNTHETIC_MAX_CLASSES = 20 };

typedef struct SyntheticScene {
    int label;      /* object's class */
    int background; /* texture family, 0 .. classes-1 */
} SyntheticScene;

/* "striped disc" */
void synthetic_class_name(int label, char name[64]);

/* Paints image [size,size,3], the object's mask [size,size] (1 inside) and its box x0 y0 x1 y1 (inclusive). Everything
 * random comes from `draws`. */
void synthetic_paint(SyntheticScene scene, int size, PhiloxReader *draws, uint8_t *image, uint8_t *mask,
                     int16_t box[4]);

#endif
