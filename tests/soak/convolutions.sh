#!/usr/bin/env bash
# convolutions.sh   All convolutions that a configuration can ask for, in random order, with each instruction set, until
# CONVOLUTIONS seconds (600) are over; 0: each of them once, however long that takes (hours).
cd "$(dirname "$0")/../.." || exit 70
exec "${BUILD:-build}/tests/unit/trainer/test_convolutions" soak "${CONVOLUTIONS:-600}"
