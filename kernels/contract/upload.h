/* Copies from the host that run beside the stream's work.
 *
 * A slot, in [0, DEVICE_UPLOADS), names what is copied in together:
 *   start    copies from host_alloc's memory into dst, after the work before the slot's last release; one or more
 *   wait     work issued from now on comes after the slot's copies
 *   release  work issued so far was the last to use the slot's destinations: later copies come after it. Needed
 *            after alloc too, which zeroes in the order of the stream
 *   finish   the host waits for the slot's copies: their sources may be changed
 * Users of one slot may wait longer than they must, never shorter. Not within a recorded capture (contract/graph.h).
 * CPU: start copies, the others have nothing to do. */
#ifndef EXCON_CONTRACT_UPLOAD_H
#define EXCON_CONTRACT_UPLOAD_H

#include "kernels/device.h"

typedef struct UploadOps {
    void (*start)(Device *, int slot, void *dst, const void *host_src, size_t bytes);
    void (*wait)(Device *, int slot);
    void (*release)(Device *, int slot);
    void (*finish)(Device *, int slot);
} UploadOps;

#endif
