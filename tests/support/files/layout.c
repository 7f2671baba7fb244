/* Miniature datasets. See layout.h. */
#include "tests/support/files/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <jpeglib.h>

#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

static const char *const sorted_wnids[LAYOUT_CLASSES] = {"n00000001", "n00000020", "n00000300"};

void jpeg_write(const char *path, int side, int grey, const uint8_t rgb[3]) {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    uint8_t *row = malloc((size_t)side * 3);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < side * (grey ? 1 : 3); i++)
        row[i] = rgb[grey ? 0 : i % 3];
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, file);
    info.image_width = info.image_height = (JDIMENSION)side;
    info.input_components = grey ? 1 : 3;
    info.in_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 95, TRUE);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < side; y++)
        jpeg_write_scanlines(&info, &row, 1);
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    fclose(file);
    free(row);
}

void tiny_colour(int label, int index, int is_val, uint8_t rgb[3]) {
    rgb[0] = (uint8_t)(40 + 60 * label);
    rgb[1] = (uint8_t)(20 + 10 * index);
    rgb[2] = is_val ? 200 : 90;
    if (tiny_is_grey(index))
        rgb[1] = rgb[2] = rgb[0];
}

int tiny_is_grey(int index) {
    return index % 4 == 3;
}

static void make_folder(const char *format, const char *dir, const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, format, dir, name);
    mkdir(path, 0755);
}

static void write_class(const char *dir, int label) {
    char path[PATH_BYTES], text[4096] = "";
    const char *wnid = sorted_wnids[label];
    make_folder("%s/train/%s", dir, wnid);
    make_folder("%s/train/%s/images", dir, wnid);
    for (int i = 0; i < LAYOUT_TRAIN; i++) {
        uint8_t rgb[3];
        tiny_colour(label, i, 0, rgb);
        snprintf(path, sizeof path, "%s/train/%s/images/%s_%d.JPEG", dir, wnid, wnid, i);
        jpeg_write(path, LAYOUT_SIDE, tiny_is_grey(i), rgb);
        sprintf(text + strlen(text), "%s_%d.JPEG\t%d\t%d\t%d\t%d\n", wnid, i, label, i, label + 10, 23);
    }
    snprintf(path, sizeof path, "%s/train/%s/%s_boxes.txt", dir, wnid, wnid);
    file_write(path, text, strlen(text));
}

void tiny_layout_write(const char *dir) {
    static const char wnids[] = "n00000300\nn00000001\nn00000020\n";
    static const char words[] = "n00000020\ttwenty, score\nn09999999\telsewhere\nn00000001\tone\n";
    char path[PATH_BYTES], text[4096] = "";
    make_folder("%s/%s", dir, "train");
    make_folder("%s/%s", dir, "val");
    make_folder("%s/%s", dir, "val/images");
    for (int label = 0; label < LAYOUT_CLASSES; label++)
        write_class(dir, label);
    for (int i = 0; i < LAYOUT_CLASSES * LAYOUT_VAL; i++) {
        const int label = i % LAYOUT_CLASSES, index = i / LAYOUT_CLASSES;
        uint8_t rgb[3];
        tiny_colour(label, index, 1, rgb);
        snprintf(path, sizeof path, "%s/val/images/val_%d.JPEG", dir, i);
        jpeg_write(path, LAYOUT_SIDE, tiny_is_grey(index), rgb);
        sprintf(text + strlen(text), "val_%d.JPEG\t%s\t%d\t%d\t%d\t%d\n", i, sorted_wnids[label], 1, index, 20, 21);
    }
    file_write(folder_join(path, dir, "val/val_annotations.txt"), text, strlen(text));
    file_write(folder_join(path, dir, "wnids.txt"), wnids, sizeof wnids - 1);
    file_write(folder_join(path, dir, "words.txt"), words, sizeof words - 1);
}

uint8_t cifar_pixel(int record, int plane, int pixel) {
    return (uint8_t)(record * 5 + plane * 80 + pixel * 3);
}

static void write_records(const char *path, int n) {
    uint8_t record[3074];
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < n; i++) {
        record[0] = (uint8_t)(i % 2);
        record[1] = (uint8_t)(i * 3 % CIFAR_CLASSES);
        for (int p = 0; p < 3072; p++)
            record[2 + p] = cifar_pixel(i, p / 1024, p % 1024);
        fwrite(record, sizeof record, 1, file);
    }
    fclose(file);
}

void cifar_layout_write(const char *dir) {
    static const char names[] = "apple\naquarium_fish\nbaby\nbear\nbeaver\n\n";
    char path[PATH_BYTES];
    write_records(folder_join(path, dir, "train.bin"), CIFAR_TRAIN);
    write_records(folder_join(path, dir, "test.bin"), CIFAR_VAL);
    file_write(folder_join(path, dir, "fine_label_names.txt"), names, sizeof names - 1);
}
