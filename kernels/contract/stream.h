/* The order of a device's work: waiting for all of it, and measuring it. */
#ifndef EXCON_CONTRACT_STREAM_H
#define EXCON_CONTRACT_STREAM_H

#include "kernels/device.h"

typedef struct StreamOps {
    /* The host waits for all work issued so far. */
    void (*sync)(Device *);
    /* Marks a moment in the device's order of work; and the seconds between two marks, valid after sync. A slot is in
     * [0, DEVICE_STAMPS). */
    void (*stamp)(Device *, int slot);
    double (*seconds)(Device *, int from, int to);
} StreamOps;

#endif
