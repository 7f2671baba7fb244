/* Handles and number types. See h5_handle.h and h5_library.h. */
#include "io/hdf5/h5_library.h"

void h5_library_begin(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
}

hid_t h5_stored_type(H5Number number) {
    switch (number) {
    case H5_U8:
        return H5T_STD_U8LE;
    case H5_I16:
        return H5T_STD_I16LE;
    case H5_I32:
        return H5T_STD_I32LE;
    case H5_I64:
        return H5T_STD_I64LE;
    case H5_F32:
        return H5T_IEEE_F32LE;
    case H5_F64:
        return H5T_IEEE_F64LE;
    case H5_NUMBERS:
        break;
    }
    return H5I_INVALID_HID;
}

hid_t h5_memory_type(H5Number number) {
    switch (number) {
    case H5_U8:
        return H5T_NATIVE_UINT8;
    case H5_I16:
        return H5T_NATIVE_INT16;
    case H5_I32:
        return H5T_NATIVE_INT32;
    case H5_I64:
        return H5T_NATIVE_INT64;
    case H5_F32:
        return H5T_NATIVE_FLOAT;
    case H5_F64:
        return H5T_NATIVE_DOUBLE;
    case H5_NUMBERS:
        break;
    }
    return H5I_INVALID_HID;
}

bool h5_close(H5Handle handle) {
    if (handle < 0)
        return true;
    switch (H5Iget_type(handle)) {
    case H5I_FILE:
        return H5Fclose(handle) >= 0;
    case H5I_GROUP:
        return H5Gclose(handle) >= 0;
    case H5I_DATASET:
        return H5Dclose(handle) >= 0;
    case H5I_ATTR:
        return H5Aclose(handle) >= 0;
    default:
        return H5Oclose(handle) >= 0;
    }
}
