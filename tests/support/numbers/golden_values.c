#include "tests/support/numbers/golden_values.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const double tolerance = 1e-5;

ArrayFile *golden_open(const char *name) {
    const char *folder = getenv("GOLDEN");
    char path[512];
    ArrayFile *file = NULL;
    Error err;
    snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : "tests/golden", name);
    if (array_file_open(&file, path, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return file;
}

Array golden_array(const ArrayFile *file, const char *name, ArrayType type) {
    Array array;
    Error err;
    if (array_read(file, name, type, -1, &array, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    return array;
}

void golden_equals(const ArrayFile *file, const char *name, int64_t n, const double *got) {
    Array want = golden_array(file, name, ARRAY_F32);
    assert_int_equal(want.count, n);
    for (int64_t i = 0; i < n; i++) {
        const double w = want.f32[i];
        if (isnan(w) ? !isnan(got[i]) : !(fabs(got[i] - w) <= tolerance * fmax(1, fabs(w))))
            fail_msg("%s[%lld]: got %.9g, want %.9g", name, (long long)i, got[i], w);
    }
    array_free(&want);
}

void golden_equals_one(const ArrayFile *file, const char *name, double got) {
    golden_equals(file, name, 1, &got);
}
