#!/usr/bin/env bash
# gpu_bundle.sh   Makes the one file to carry to a machine with a GPU that lacks Open MPI, other libraries and a network, for
# scripts/gpu_check.sh --bundle. `make gpu-bundle` runs it.
#
# Installs what is missing (scripts/deps.sh), compiles the CUDA backend, and packs it with the program, Open MPI, libraries and
# test programs into $BUILD/bundle/excon-VERSION-tests.tar.gz.
# Variables: BUILD (build), CUDA_ARCHS (90: H100 and H200), JOBS (make -j), PACKED_MOST_MB (40: more is an error), and those of
# scripts/bundle.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

export BUILD=${BUILD:-build} MAKE=${MAKE:-make} JOBS=${JOBS:-$(nproc)}
VERSION=${VERSION:-$(git describe --tags --always 2>/dev/null || echo unknown)}
export VERSION WITH_TESTS=1 BUNDLE_ONEDNN=${BUNDLE_ONEDNN:-installed}
CUDA_ARCHS=${CUDA_ARCHS:-90}
PACKED_MOST_MB=${PACKED_MOST_MB:-40}
device=$BUILD/gpu # the backend for these GPUs alone: what make has built in $BUILD stays as it is
packed=$BUILD/bundle/excon-$VERSION-tests.tar.gz

scripts/deps.sh patchelf
"$MAKE" --no-print-directory -j"$JOBS" BUILD="$device" CUDA=1 CUDA_ARCHS="$CUDA_ARCHS" "$device/libexcon_cuda.so"
CUDA_LIBRARY=$device/libexcon_cuda.so scripts/bundle.sh
echo "bundle: of that machine it needs $(patchelf --print-needed "$device/libexcon_cuda.so" | grep -E 'cuda|cublas|cudnn|nccl' | paste -sd' '), and a driver"
if [ "$(stat -c %s "$packed")" -gt $((PACKED_MOST_MB * 1000000)) ]; then
    echo "bundle: $packed is larger than $PACKED_MOST_MB MB (PACKED_MOST_MB)" >&2
    exit 70
fi
echo "bundle: carry $packed, and run scripts/gpu_check.sh --short A --bundle $packed"
