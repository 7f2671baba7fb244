#include "trainer/evaluate/statistics/confusion.h"

#include <math.h>
#include <string.h>

int64_t confusion_count(int64_t n, const int32_t *labels, const int32_t *predicted, int classes, int64_t *counts) {
    int64_t outside = 0;
    memset(counts, 0, sizeof *counts * (size_t)classes * (size_t)classes);
    for (int64_t i = 0; i < n; i++) {
        const int32_t label = labels[i], guess = predicted[i];
        if (label < 0 || label >= classes || guess < 0 || guess >= classes)
            outside++;
        else
            counts[(int64_t)label * classes + guess]++;
    }
    return outside;
}

void confusion_class_accuracy(int classes, const int64_t *counts, double *accuracy) {
    for (int c = 0; c < classes; c++) {
        int64_t total = 0;
        for (int guess = 0; guess < classes; guess++)
            total += counts[(int64_t)c * classes + guess];
        accuracy[c] = total > 0 ? (double)counts[(int64_t)c * classes + c] / (double)total : NAN;
    }
}
