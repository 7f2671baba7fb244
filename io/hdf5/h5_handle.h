/* Handles of HDF5 objects, and the kinds of numbers that our files hold.
 *
 * This folder is the only one that includes <hdf5.h> or calls the HDF5 library; all others go through its headers:
 * h5_read.h and h5_describe.h (files that may be foreign), h5_walk.h (all that a file holds), h5_write.h (new files).
 */
#ifndef EXCON_IO_H5_HANDLE_H
#define EXCON_IO_H5_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

/* An open file, group, dataset or attribute; negative: none. Its owner closes it by h5_close(). */
typedef int64_t H5Handle;

/* Numbers: little-endian in the file, the machine's own in memory. */
typedef enum H5Number { H5_U8, H5_I16, H5_I32, H5_I64, H5_F32, H5_F64, H5_NUMBERS } H5Number;

/* Closes a handle of any kind; a negative one is passed over. False when the library says that it failed: a file that
 * was written to is not whole then. */
bool h5_close(H5Handle handle);

#endif
