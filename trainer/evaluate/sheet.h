/* A sheet of explained images: what the evaluator takes along from a run over a split, drawn for a person. */
#ifndef EXCON_TRAINER_SHEET_H
#define EXCON_TRAINER_SHEET_H

#include <stdint.h>

#include "kernels/base/status.h"

enum { SHEET_ROWS = 8 };

typedef struct Sheet {
    int rows, side;  /* images taken, at most SHEET_ROWS; their height and width */
    uint8_t *images; /* [rows,side,side,3] */
    float *maps;     /* [rows,side,side] saliency on any scale */
} Sheet;

/* Room for SHEET_ROWS images; STATUS_SYSTEM without memory. */
Status sheet_init(Sheet *sheet, int side, Error *err);
void sheet_free(Sheet *sheet);

/* A line per image, whose map is scaled to 0..1 as for a mask: itself, its saliency over its grey version (blue: none,
 * red: most), the mask (white where the map is above `threshold`), and what the mask leaves of it, the rest grey. *rgb
 * [height,width,3] is malloc'ed; small images are enlarged by whole factors. */
Status sheet_draw(const Sheet *sheet, double threshold, uint8_t **rgb, int *height, int *width, Error *err);

#endif
