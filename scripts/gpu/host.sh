# shellcheck shell=bash disable=SC2034,SC2154 # gpu_check.sh and its parts share their variables
# Sourced by gpu_check.sh: what this machine has, and the program: built, or from a bundle.

gpu_name='' torch_version=''

# The first Python with PyTorch, without loading that: seconds each time.
find_python() {
    for PYTHON in "${PYTHON:-}" python3 /usr/bin/python3; do
        [ -n "$PYTHON" ] || continue
        torch_version=$("$PYTHON" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null) && return
    done
    PYTHON=python3 torch_version=
}

# find_tool NAME   a tool of the CUDA toolkit that need not be on the PATH; nothing when it is nowhere
find_tool() {
    local place
    command -v "$1" && return
    for place in /usr/local/cuda/bin /usr/local/cuda/compute-sanitizer /opt/nvidia/nsight-compute/*; do
        [ ! -x "$place/$1" ] || { echo "$place/$1" && return; }
    done
}

find_host() {
    local smi nvcc driver memory capability
    smi=$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2>/dev/null)
    IFS=, read -r gpu_name driver memory capability <<<"${smi%%$'\n'*}"
    [ "$mode" = cuda ] || gpu_name="none: $mode"
    nvcc=$("$(find_tool nvcc)" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    find_python
    echo "GPU       ${gpu_name:-none that nvidia-smi sees}${driver:+, driver$driver,$memory, capability$capability}"
    echo "nvcc      ${nvcc:-not here}"
    echo "PyTorch   ${torch_version:-not here} ($PYTHON)"
    [ "$dry" = 0 ] || return 0
    printf '{"gpu":"%s","driver":"%s","memory":"%s","capability":"%s","nvcc":"%s","torch":"%s","cpu":"%s, %s threads","system":"%s"}\n' \
        "$(json_text "$gpu_name")" "${driver# }" "${memory# }" "${capability# }" "$nvcc" "$(json_text "$torch_version")" \
        "$(json_text "$(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo)")" "$(nproc)" \
        "$(json_text "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d '"')")" >"$out/host.json"
}

# ---- the program ----------------------------------------------------------------------------------------------------

prebuilt=$BUILD/prebuilt # where a bundle is unpacked
tests_build=$BUILD       # what has excon and the test programs
in_bundle=()             # wraps programs of the bundle that are not its excon and mpirun
revision=''

# What the program says it was built from; before it is there, what is checked out.
find_revision() {
    revision=$("$EXCON" --version 2>/dev/null | awk '{ print $NF }')
    [ -n "$revision" ] || revision=$(git rev-parse --short=12 HEAD 2>/dev/null) || revision=unknown
}

# Takes the bundle that was unpacked, if one was given or nothing is built here; else what is built.
use_what_is_here() {
    if [ -e "$prebuilt/excon" ] && { [ -n "$bundle" ] || [ ! -x "$BUILD/excon" ]; }; then
        tests_build=$prebuilt
        in_bundle=("$(dirname "$(readlink -f "$prebuilt/excon")")/in-bundle")
    fi
    export EXCON=$tests_build/excon
    find_revision
    case "$mode" in
    simt) EXCON_CUDA_LIBRARY=$(realpath -m "$BUILD/simt/libexcon_cuda.so") ;;
    cuda) EXCON_CUDA_LIBRARY=$(realpath -m "$tests_build/libexcon_cuda.so") ;;
    *) return ;;
    esac
    export EXCON_CUDA_LIBRARY
    [ "$mode" != cuda ] || find_cuda_libraries
}

# missing_libraries FILE...   names, on one line
missing_libraries() { ldd "$@" 2>/dev/null | awk '/not found/ && !seen[$1]++ { printf "%s ", $1 }'; }

# cuBLAS, cuDNN and NCCL may lie in Python packages only.
find_cuda_libraries() {
    local folder
    [ -e "$EXCON_CUDA_LIBRARY" ] && [ -n "$(missing_libraries "$EXCON_CUDA_LIBRARY")" ] || return 0
    for folder in $("$PYTHON" -c 'import glob, site; print(*[f for s in site.getsitepackages() for f in glob.glob(s + "/nvidia/*/lib")])' 2>/dev/null) /usr/local/cuda/lib64; do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
    export LD_LIBRARY_PATH
}

newest_bundle() { find "$BUILD/bundle" -maxdepth 1 -name 'excon-*-tests.tar.gz' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-; }

unpack_bundle() {
    local root
    run unpack 60 sh -c "rm -rf '$prebuilt' && mkdir -p '$prebuilt' && tar -xzf '$1' -C '$prebuilt'" || return
    [ "$dry" = 0 ] || return 0
    root=$(find "$prebuilt" -mindepth 1 -maxdepth 1 -type d -name 'excon-*' | head -n 1)
    root=${root##*/}
    ln -s "$root/bin/excon" "$prebuilt/excon"
    ln -s "$root/lib/libexcon_cuda.so" "$prebuilt/libexcon_cuda.so"
    ln -s "$root/libexec/tests" "$prebuilt/tests"
    ln -s "$(realpath -m "$BUILD/simt")" "$prebuilt/simt" # of the stand-in GPU, where that is tried
    [ -x "$prebuilt/$root/bin/in-bundle" ] && [ -e "$prebuilt/libexcon_cuda.so" ]
}

take_bundle() { # FILE
    bundle=$1
    if unpack_bundle "$1"; then
        [ "$dry" = 1 ] || pass "taken from $1"
    else
        fail "$1 is no bundle with tests and CUDA (make gpu-bundle)"
    fi
}

build_from_source() {
    local options=()
    [ "$mode" != cuda ] || options=(CUDA=1)
    run make 600 make -j"$(nproc)" "${options[@]}" test-binaries
}

# A short call has no time to build: it takes the bundle, or what was built before.
stage_build() {
    local found
    found=$(newest_bundle)
    if [ -n "$bundle" ]; then
        take_bundle "$bundle"
    elif [ -n "$short" ] && [ -x "$BUILD/excon" ]; then
        pass "built before"
    elif [ -z "$short" ] && build_from_source; then
        [ "$dry" = 1 ] || pass "built from source"
    elif [ -n "$found" ]; then
        take_bundle "$found"
    else
        fail "no bundle is under $BUILD/bundle (make gpu-bundle)${short:+, no program in $BUILD}, and cannot build here${log:+: $(grep -E '\*\*\*|error' "$log" | head -n 1 | cut -c1-160)}"
        return
    fi
    use_what_is_here
    [ "$dry" = 1 ] || check_libraries
}

# Everything the program loads is here; and, for the record, what it is.
check_libraries() {
    local files missing
    files=("$(readlink -f "$tests_build")/excon")
    [ ${#in_bundle[@]} = 0 ] || files=("$(dirname "${in_bundle[0]}")/../libexec/excon")
    [ "$mode" != cuda ] || files+=("$EXCON_CUDA_LIBRARY")
    {
        uname -a
        nvidia-smi
        "$EXCON" --version
        "$(find_tool nvcc)" --version
        lscpu
        free -m
        echo "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}"
        ldd "${files[@]}"
    } >"$out/logs/build-versions.log" 2>&1
    missing=$(missing_libraries "${files[@]}")
    if [ -z "$missing" ]; then pass "every library is here"; else fail "missing libraries: $missing(LD_LIBRARY_PATH)"; fi
}

# ---- can it use the GPU ---------------------------------------------------------------------------------------------

loopback_was_up() { grep -qs '127\.0\.0\.1' /proc/net/fib_trie; }

# SIOCGIFFLAGS, then SIOCSIFFLAGS with IFF_UP.
loopback_by_python() {
    "$PYTHON" - <<'END'
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags, = struct.unpack_from("16xH", fcntl.ioctl(s, 0x8913, struct.pack("16s24x", b"lo")))
fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", flags | 1))
END
}

# Open MPI does not start without the loopback interface, and a machine without a network may have it down. It is set up
# in any case: an address says only that it was up once.
raise_loopback() {
    local was=down
    if loopback_was_up; then was=up; fi
    if { ip link set lo up || ifconfig lo up || loopback_by_python; } >"$out/logs/device-loopback.log" 2>&1; then
        [ $was = up ] || echo "  the loopback interface was down; it is up now"
    elif [ $was = down ]; then
        echo "  the loopback interface is down, and this cannot set it up (ip link set lo up, as root); Open MPI needs it"
    fi
}

transport='' with_transport=() # comm.transport, where NCCL cannot start: options of the program

first_loss() { # NAME
    measure loss excon "$1" 90 "$EXCON" bench loss --backend "$backend" --rows 256 --steps 5 "${with_transport[@]}" --json
}

# One loss on the device before anything else: without a usable GPU nothing that follows says anything.
stage_device() {
    [ "$dry" = 1 ] || raise_loopback
    again=1 first_loss "loss 256 x 128"
    if [ "$failed" != 0 ] && [ "$mode" != cpu ]; then
        transport=mpi with_transport=(--set comm.transport=mpi)
        export EXCON_TRANSPORT=mpi
        again=1 first_loss "loss 256 x 128 by MPI"
        if [ "$passed" != 0 ]; then echo "  everything from here on with comm.transport=mpi"; fi
    fi
    device_seen=1
    if [ "$failed" != 0 ] && [ "$passed" = 0 ]; then
        end_stage failed
        echo "gpu_check: the program cannot use a GPU here: $reason" >&2
        exit 71
    fi
}
