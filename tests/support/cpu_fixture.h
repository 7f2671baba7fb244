/* cmocka group fixture: one open device as `*state`; closing it must leave no device memory behind. */
#ifndef EXCON_TESTS_CPU_FIXTURE_H
#define EXCON_TESTS_CPU_FIXTURE_H

int open_cpu_device(void **state);
int close_cpu_device(void **state);

#endif
