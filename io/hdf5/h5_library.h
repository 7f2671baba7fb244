/* What the sources of this folder share: the HDF5 library and its names for our numbers. Not for other folders. */
#ifndef EXCON_IO_H5_LIBRARY_H
#define EXCON_IO_H5_LIBRARY_H

#include <hdf5.h>

#include "io/hdf5/h5_handle.h"

enum { H5_PATH_BYTES = 512 }; /* of a name with the groups it lies in */

/* Name of a file in memory: the library refuses one that exists on the disk too, and this cannot. */
#define H5_NO_FILE "/dev/null/in-memory.h5"

_Static_assert(sizeof(hid_t) == sizeof(H5Handle), "a handle holds the library's identifier");

/* Switches off plugins and the library's own error printing. Called before any file is opened or made. */
void h5_library_begin(void);

/* The library's type of a number in a file and in memory; borrowed. */
hid_t h5_stored_type(H5Number number);
hid_t h5_memory_type(H5Number number);

#endif
