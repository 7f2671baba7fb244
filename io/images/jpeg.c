/* JPEG decoding. libjpeg reports fatal errors by a callback that must not return: it jumps back to run(), whose frame
 * holds nothing that changes after the jump point but through `work`. */
#include "io/images/jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

typedef struct Work {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back a pointer to it */
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
    const void *data;
    size_t size;
    int height, width;
    uint8_t *rgb; /* NULL: header only */
} Work;

static void on_fatal(j_common_ptr info) {
    Work *work = (Work *)info->err;
    info->err->format_message(info, work->text);
    longjmp(work->back, 1);
}

static void on_message(j_common_ptr info, int level) {
    Work *work = (Work *)info->err;
    if (level >= 0)
        return;
    if (info->err->num_warnings++ == 0)
        info->err->format_message(info, work->text);
}

static void on_output(j_common_ptr info) {
    (void)info;
}

/* 0 when the picture, or its header, was read without complaint; work->text says what was wrong otherwise. */
static int run(Work *work, struct jpeg_decompress_struct *info) {
    if (setjmp(work->back))
        return -1;
    jpeg_create_decompress(info);
    jpeg_mem_src(info, work->data, (unsigned long)work->size);
    jpeg_read_header(info, TRUE);
    if (!work->rgb) {
        work->height = (int)info->image_height;
        work->width = (int)info->image_width;
        return 0;
    }
    if ((int)info->image_height != work->height || (int)info->image_width != work->width) {
        snprintf(work->text, sizeof work->text, "is %ux%u, expected %dx%d", info->image_height, info->image_width,
                 work->height, work->width);
        return -1;
    }
    info->out_color_space = JCS_RGB;
    jpeg_start_decompress(info);
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = work->rgb + (size_t)info->output_scanline * (size_t)work->width * 3;
        jpeg_read_scanlines(info, &row, 1);
    }
    jpeg_finish_decompress(info);
    return info->err->num_warnings > 0 ? -1 : 0;
}

static Status decode(Work *work, const char *path, Error *err) {
    struct jpeg_decompress_struct info;
    memset(&info, 0, sizeof info);
    info.err = jpeg_std_error(&work->errors);
    work->errors.error_exit = on_fatal;
    work->errors.emit_message = on_message;
    work->errors.output_message = on_output;
    const int failed = work->size == 0 || run(work, &info);
    jpeg_destroy_decompress(&info);
    if (failed)
        return error_set(err, STATUS_DATA, "%s: damaged or not an RGB or grey JPEG: %s; extract the archive again",
                         path, work->size == 0 ? "empty file" : work->text);
    return STATUS_OK;
}

Status jpeg_size(const char *path, const void *data, size_t size, int *height, int *width, Error *err) {
    Work work = {.data = data, .size = size};
    RETURN_IF(decode(&work, path, err));
    *height = work.height;
    *width = work.width;
    return STATUS_OK;
}

Status jpeg_decode(const char *path, const void *data, size_t size, int height, int width, uint8_t *rgb, Error *err) {
    Work work = {.data = data, .size = size, .height = height, .width = width, .rgb = rgb};
    return decode(&work, path, err);
}
