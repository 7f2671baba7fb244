#!/usr/bin/env bash
# onednn.sh   Builds the part of oneDNN that excon calls, for a bundle: convolutions, reorders and products of matrices on the
# CPU, for size, with the C++ runtime inside. Debian's library, with every primitive and a GPU engine, is 40 MB.
#
# Puts include/, lib/ and licenses/ into the folder DIR (first argument) and does nothing when they are there already. Some
# twenty minutes on two cores.
# Variables: ONEDNN_SOURCE (a git address or folder that holds the commit below), JOBS (make -j), CC, CXX.
set -euo pipefail

DIR=${1:?folder to build in}
ONEDNN_SOURCE=${ONEDNN_SOURCE:-https://github.com/uxlfoundation/oneDNN.git}
JOBS=${JOBS:-$(nproc)}
VERSION=2.6.3
COMMIT=92ac40077b3b5816c7b78cdf39a988599929f0e9 # tag v2.6.3, what Debian 12 has

say() { echo "onednn: $*"; }
for tool in cmake git; do
    command -v $tool >/dev/null || {
        echo "onednn: no $tool here. Install it: apt-get install $tool" >&2
        exit 66
    }
done

# What this script would build: its own text.
stamp=$(sha256sum <"${BASH_SOURCE[0]}")
if [ "$(cat "$DIR/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

fetch() {
    local source=$1 into=$2
    rm -rf "$into"
    git init -q "$into"
    # The commit's name is a checksum of every file: it does not matter who hands it over.
    if ! git -C "$into" fetch -q --depth 1 "$source" "$COMMIT"; then
        echo "onednn: cannot get oneDNN $VERSION from $source. Give a copy of the repository (ONEDNN_SOURCE=FOLDER)," >&2
        echo "or take the library that is installed (BUNDLE_ONEDNN=installed)." >&2
        exit 66
    fi
    git -C "$into" -c advice.detachedHead=false checkout -q FETCH_HEAD
    [ "$(git -C "$into" rev-parse HEAD)" = "$COMMIT" ] || {
        echo "onednn: $source gave another commit than $COMMIT" >&2
        exit 65
    }
}

mkdir -p "$DIR"
say "fetching oneDNN $VERSION"
fetch "$ONEDNN_SOURCE" "$DIR/source"
say "building it with $JOBS jobs: $DIR/build.log"
{
    cmake -S "$DIR/source" -B "$DIR/build" -DCMAKE_BUILD_TYPE=MinSizeRel \
        -DDNNL_CPU_RUNTIME=OMP -DDNNL_GPU_RUNTIME=NONE -DDNNL_ENABLE_PRIMITIVE='CONVOLUTION;REORDER' \
        -DDNNL_ENABLE_WORKLOAD=TRAINING -DDNNL_BUILD_EXAMPLES=OFF -DDNNL_BUILD_TESTS=OFF \
        -DDNNL_ENABLE_JIT_PROFILING=OFF -DDNNL_ENABLE_ITT_TASKS=OFF \
        -DCMAKE_CXX_FLAGS='-ffunction-sections -fdata-sections' \
        -DCMAKE_SHARED_LINKER_FLAGS='-Wl,--gc-sections -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL' &&
        cmake --build "$DIR/build" --parallel "$JOBS" --target dnnl
} >"$DIR/build.log" 2>&1 || {
    tail -n 20 "$DIR/build.log" >&2
    exit 70
}
rm -rf "${DIR:?}"/{include,lib,licenses}
mkdir -p "$DIR"/{lib,licenses}
cp -r "$DIR/source/include" "$DIR/include"
cp -r "$DIR/build/include/." "$DIR/include/" # headers made by cmake
cp -P "$DIR"/build/src/libdnnl.so* "$DIR/lib/"
cp "$DIR/source/LICENSE" "$DIR/licenses/onednn.txt"
cp "$DIR/source/THIRD-PARTY-PROGRAMS" "$DIR/licenses/onednn-third-party.txt"
rm -rf "$DIR/source" "$DIR/build"
echo "$stamp" >"$DIR/stamp"
