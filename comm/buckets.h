/* Gradient all-reduce in buckets that overlaps backward.
 *
 * The gradient arena is laid out in forward order and finished from its end. buckets_ready(first) says that elements
 * [first, end) are final; every bucket that lies wholly in there starts its all-reduce at once. Sums, never averages:
 * the loss is already the global mean. */
#ifndef EXCON_COMM_BUCKETS_H
#define EXCON_COMM_BUCKETS_H

#include "comm/comm.h"

typedef struct Buckets Buckets;

/* `gradient` [n] on comm's device; buckets of about bucket_bytes, cut without regard to tensors. STATUS_SYSTEM without
 * memory: *out is NULL then, which buckets_free takes. */
Status buckets_init(Buckets **out, Comm *comm, float *gradient, int64_t n, int64_t bucket_bytes, Error *err);
void buckets_free(Buckets *buckets);

/* Starts a round over elements [begin, end). */
void buckets_begin(Buckets *buckets, int64_t begin, int64_t end);
/* Elements from `first` on are final, to what was ready before; starts the buckets that are full. */
void buckets_ready(Buckets *buckets, int64_t first);
/* Starts what is left and waits for all. */
void buckets_finish(Buckets *buckets);

#endif
