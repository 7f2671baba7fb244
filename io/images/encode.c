/* libjpeg reports fatal errors by a callback that must not return: it jumps back to encode(). */
#include "io/images/encode.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

typedef struct Work {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back a pointer to it */
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
    unsigned char *out;
    unsigned long size;
} Work;

static void on_fatal(j_common_ptr info) {
    Work *work = (Work *)info->err;
    info->err->format_message(info, work->text);
    longjmp(work->back, 1);
}

static int encode(Work *work, struct jpeg_compress_struct *info, const uint8_t *rgb, int height, int width, int quality,
                  bool half_colour) {
    if (setjmp(work->back))
        return -1;
    jpeg_create_compress(info);
    jpeg_mem_dest(info, &work->out, &work->size);
    info->image_width = (JDIMENSION)width;
    info->image_height = (JDIMENSION)height;
    info->input_components = 3;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    info->comp_info[0].h_samp_factor = info->comp_info[0].v_samp_factor = half_colour ? 2 : 1;
    for (int c = 1; c < info->num_components; c++)
        info->comp_info[c].h_samp_factor = info->comp_info[c].v_samp_factor = 1;
    jpeg_start_compress(info, TRUE);
    while (info->next_scanline < info->image_height) {
        /* libjpeg's interface is older than const */
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + (size_t)info->next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
    return 0;
}

static Status encode_jpeg(const uint8_t *rgb, int height, int width, int quality, bool half_colour, uint8_t **out,
                          size_t *size, Error *err) {
    Work work = {.out = NULL};
    struct jpeg_compress_struct info = {.err = jpeg_std_error(&work.errors)};
    work.errors.error_exit = on_fatal;
    const int failed = encode(&work, &info, rgb, height, width, quality, half_colour);
    jpeg_destroy_compress(&info);
    *out = NULL;
    *size = 0;
    if (failed) {
        free(work.out);
        return error_set(err, STATUS_SYSTEM, "a picture of %dx%d cannot be encoded: %s", height, width, work.text);
    }
    *out = work.out;
    *size = work.size;
    return STATUS_OK;
}

Status image_encode_jpeg(const uint8_t *rgb, int height, int width, int quality, uint8_t **out, size_t *size,
                         Error *err) {
    return encode_jpeg(rgb, height, width, quality, false, out, size, err);
}

Status image_encode_jpeg_half_colour(const uint8_t *rgb, int height, int width, int quality, uint8_t **out,
                                     size_t *size, Error *err) {
    return encode_jpeg(rgb, height, width, quality, true, out, size, err);
}
