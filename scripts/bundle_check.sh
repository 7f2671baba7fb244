#!/usr/bin/env bash
# bundle_check.sh [BUNDLE.tar.gz]   Tries the bundle in a bare system of another Debian release, with nothing installed.
#
# Unpacks it (the newest under $BUILD/bundle by default) into a chroot that debootstrap made, and there imports a
# dataset, trains on two ranks, evaluates, moves the folder elsewhere and evaluates again. Needs root, debootstrap and a
# Debian mirror; without one of them it counts as skipped, with the reason.
# Variables: BUILD (build), SUITE (trixie: glibc 2.41), MIRROR (http://deb.debian.org/debian), CHROOT (kept for the next
# call: $BUILD/bundle/SUITE).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

BUILD=${BUILD:-build}
SUITE=${SUITE:-trixie}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
CHROOT=${CHROOT:-$BUILD/bundle/$SUITE}
passed=0 failed=0
scratch=$(mktemp -d) || exit 73

skip() {
    echo "  skipped  bundle-check: $*"
    echo "excon: 0 passed, 0 failed, 1 skipped"
    exit 0
}

bundle=${1:-$(find "$BUILD/bundle" -maxdepth 1 -name 'excon-*.tar.gz' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)}
if [ -z "$bundle" ] || [ ! -e "$bundle" ]; then
    echo "bundle_check: there is no bundle${1:+ $1}; run make bundle first" >&2
    exit 66
fi
[ "$(id -u)" = 0 ] || skip "needs root, for chroot"
if [ ! -e "$CHROOT/.complete" ]; then
    command -v debootstrap >/dev/null || skip "needs debootstrap: apt-get install debootstrap"
    echo "bundle-check: a bare $SUITE in $CHROOT"
    rm -rf "${CHROOT:?}"
    mkdir -p "$CHROOT"
    debootstrap --variant=minbase "$SUITE" "$CHROOT" "$MIRROR" >"$scratch/debootstrap" 2>&1 ||
        skip "debootstrap $SUITE from $MIRROR failed: $(grep -E '^[EW]:' "$scratch/debootstrap" | tail -n 1)"
    touch "$CHROOT/.complete"
fi
CHROOT=$(cd "$CHROOT" && pwd)

mounted=
leave() {
    for place in $mounted; do umount "$CHROOT/$place" 2>/dev/null; done
    rm -rf "$scratch" "$CHROOT/opt/first" "$CHROOT/opt/elsewhere" "$CHROOT/tmp/check"
}
trap leave EXIT
bind() { # PLACE, OPTIONS of mount
    local place=$1
    shift
    mkdir -p "$CHROOT/$place"
    mount "$@" "$CHROOT/$place" || skip "cannot mount $place in $CHROOT"
    mounted="$place $mounted"
}
bind proc -t proc proc
bind sys -t sysfs -o ro sysfs
bind dev --bind /dev
bind dev/shm -t tmpfs tmpfs

inside() {
    chroot "$CHROOT" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OMP_NUM_THREADS=1 \
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe timeout 600 "$@"
}
check() { # NAME, STATUS wanted, PART of the output, COMMAND...
    local name=$1 want=$2 part=$3 code
    shift 3
    inside "$@" >"$scratch/log" 2>&1
    code=$?
    if [ $code = "$want" ] && { [ -z "$part" ] || grep -qF -- "$part" "$scratch/log"; }; then
        echo "  ok      $name"
        passed=$((passed + 1))
    else
        echo "  FAILED  $name: status $code instead of $want, or no '$part' in:"
        sed 's/^/    | /' "$scratch/log" | tail -n 30
        failed=$((failed + 1))
    fi
}

rm -rf "$CHROOT/opt/first" "$CHROOT/opt/elsewhere" "$CHROOT/tmp/check"
mkdir -p "$CHROOT/opt/first" "$CHROOT/opt/elsewhere" "$CHROOT/tmp/check"
tar -xzf "$bundle" -C "$CHROOT/opt/first" || exit 74
folder=$(basename "$bundle" .tar.gz)
excon=/opt/first/$folder/bin/excon mpirun=/opt/first/$folder/bin/mpirun
echo "bundle-check: $folder in $(sed -n 's/^PRETTY_NAME=//p' "$CHROOT/etc/os-release"), $(inside ldd --version | head -n 1)"

# Nothing of what the program needs may come from the system, or the check would prove nothing.
# shellcheck disable=SC2016 # the shell inside expands it
check bare 0 none sh -c 'for f in mpi hdf5 dnnl yaml jpeg gomp; do ls /usr/lib/*/lib$f*.so* 2>/dev/null && exit 1; done; echo none'
check nothing_missing 0 none sh -c "
    find /opt/first -type f -path '*/lib/*' ! -name 'libexcon_cuda*' -exec env LD_LIBRARY_PATH=/opt/first/$folder/lib ldd {} + |
        grep 'not found' || echo none"
check help 0 'Exit codes' "$excon" help
check import 0 '' "$excon" import synthetic /tmp/check/data --classes 4 --size 16 --train-per-class 40 --val-per-class 10
check train 0 'step' "$mpirun" -n 2 "$excon" train "/opt/first/$folder/configs/demo.yaml" --set data.dir=/tmp/check/data \
    --set run.dir=/tmp/check/run --set train.epochs=1 --set train.batch=16 --set train.log_every=1 --set train.max_steps=4
check eval 0 '"top1"' "$mpirun" -n 2 "$excon" eval /tmp/check/run --json
check one_rank_alone 0 '"top1"' sh -c "$excon eval /tmp/check/run --json 2>/tmp/check/alone.log"
check no_gpu 71 'backend cuda' "$excon" bench loss --rows 64 --backend cuda
check no_complaint 0 none sh -c 'cat /tmp/check/alone.log; [ ! -s /tmp/check/alone.log ] && echo none'
check moved 0 '' mv "/opt/first/$folder" "/opt/elsewhere/it is here"
check elsewhere 0 '"top1"' "/opt/elsewhere/it is here/bin/mpirun" -n 2 "/opt/elsewhere/it is here/bin/excon" eval /tmp/check/run --json
check by_a_link 0 'Exit codes' sh -c "ln -sf '/opt/elsewhere/it is here/bin/excon' /tmp/check/excon && /tmp/check/excon help"

echo "excon: $passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
