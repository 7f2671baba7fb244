/* cmocka group fixture: one open device as `*state`; closing it must leave no device memory behind.
 *
 * The environment variable EXCON_TEST_BACKEND chooses it: cpu (default), or cuda, the backend library that
 * EXCON_CUDA_LIBRARY names: the one on the stand-in GPU of tests/simt, or the real one. So every operator test holds
 * both backends against the same references. */
#ifndef EXCON_TESTS_DEVICE_FIXTURE_H
#define EXCON_TESTS_DEVICE_FIXTURE_H

int open_test_device(void **state);
int close_test_device(void **state);

#endif
