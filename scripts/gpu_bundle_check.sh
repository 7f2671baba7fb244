#!/usr/bin/env bash
# gpu_bundle_check.sh [BUNDLE.tar.gz]   Rehearses on the stand-in GPU what a GPU machine will see: both short calls of
# gpu_check.sh, in a bare system of another Debian release, without a network (lo is down) and without a build or .git.
#
# Takes the newest bundle of make gpu-bundle by default, and $BUILD/simt (make test-binaries). A call passes when it ends within
# its time, nothing failed, and its tar names every stage; with TIMES=N calls may take N times as long, for slow machines.
# Needs root, debootstrap and a Debian mirror; without one of them it counts as skipped, with the reason.
# Variables: BUILD (build), SUITE (trixie), MIRROR (http://deb.debian.org/debian), CHROOT (kept for the next call:
# $BUILD/bundle/SUITE-python; Python is what a GPU machine has, and sets lo up), TIMES (1).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

BUILD=${BUILD:-build}
SUITE=${SUITE:-trixie}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
CHROOT=${CHROOT:-$BUILD/bundle/$SUITE-python}
TIMES=${TIMES:-1}
passed=0 failed=0

skip() {
    echo "  skipped  gpu-bundle-check: $*"
    echo "excon: 0 passed, 0 failed, 1 skipped"
    exit 0
}
result() { # NAME, STATUS of the condition
    if [ "$2" = 0 ]; then passed=$((passed + 1)) && echo "  ok      $1"; else failed=$((failed + 1)) && echo "  FAILED  $1"; fi
}

bundle=${1:-$(find "$BUILD/bundle" -maxdepth 1 -name 'excon-*-tests.tar.gz' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)}
if [ -z "$bundle" ] || [ ! -e "$bundle" ] || [ ! -e "$BUILD/simt/libexcon_cuda.so" ]; then
    echo "gpu_bundle_check: there is no bundle, or no stand-in GPU in $BUILD/simt; run make gpu-bundle and make test-binaries first" >&2
    exit 66
fi
[ "$(id -u)" = 0 ] || skip "needs root, for chroot"
unshare -n -m true 2>/dev/null || skip "may not make a network namespace (unshare -n)"
if [ ! -e "$CHROOT/.complete" ]; then
    command -v debootstrap >/dev/null || skip "needs debootstrap: apt-get install debootstrap"
    rm -rf "${CHROOT:?}"
    mkdir -p "$CHROOT"
    debootstrap --variant=minbase --include=python3 "$SUITE" "$CHROOT" "$MIRROR" >"$CHROOT.log" 2>&1 || skip "debootstrap $SUITE from $MIRROR failed ($CHROOT.log)"
    touch "$CHROOT/.complete"
fi
CHROOT=$(cd "$CHROOT" && pwd)
trap 'rm -rf "$CHROOT/opt/tree" "$CHROOT/opt/out"' EXIT

# The tree as a device machine gets it: what git tracks, and the bundle; and the stand-in, which takes the GPU's place.
rm -rf "$CHROOT/opt/tree" "$CHROOT/opt/out"
mkdir -p "$CHROOT/opt/tree/build/bundle" "$CHROOT/opt/tree/build/simt" "$CHROOT/opt/out"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$CHROOT/opt/tree"
cp "$bundle" "$CHROOT/opt/tree/build/bundle/"
cp "$BUILD/simt/libexcon_cuda.so" "$CHROOT/opt/tree/build/simt/"

# Mounts of a mount namespace go with it.
inside() {
    # shellcheck disable=SC2016 # the shell inside expands it
    unshare -n -m bash -c '
        cd "$0" && mount -t proc proc proc && mount -t sysfs -o ro sysfs sys && mount --bind /dev dev && mkdir -p dev/shm &&
            mount -t tmpfs tmpfs dev/shm || exit 71
        exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"' "$CHROOT" "$@"
}

for short in A B; do
    most=330 wanted='build device steps ops resume graphs rates'
    [ $short = A ] || { most=400 wanted='build device peer profile loss halves golden sanitizer'; }
    begin=$SECONDS
    inside /opt/tree/scripts/gpu_check.sh --simt --short $short --budget $((most * TIMES)) --out /opt/tree/build/$short --tar /opt/out
    result "$short: nothing failed" $?
    echo "          $short took $((SECONDS - begin)) s"
    [ $((SECONDS - begin)) -le $((most * TIMES + 10)) ]
    result "$short: within its time" $?
    json=$(tar -xzf "$CHROOT/opt/out/gpu-check-$short.tar.gz" -O gpu-check.json)
    missing=''
    for name in $wanted; do [[ $json == *"\"stage\":\"$name\""* ]] || missing="$missing $name"; done
    [ -z "$missing" ]
    result "$short: the tar names every stage${missing:+, but not$missing}" $?
done
echo "excon: $passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
