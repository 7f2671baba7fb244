#!/usr/bin/env bash
# chroot_check.sh [NAME...]   `make demo` and `make test` in a bare Debian, RELEASE, as on a machine just installed.
#
# debootstrap makes the system once, from the mirror of this machine's own apt settings; each call works in a copy of it,
# installs make there, takes the sources as they lie here, and lets scripts/deps.sh find the rest. NAMEs limit the tests
# (tests/run.sh). At the end the versions and the counts. Needs root, debootstrap and the mirror; without one of them it
# counts as skipped, with the reason.
#
# Mounts and processes live in namespaces of their own and are gone with this script, however it ends; so is the copy,
# unless the script was killed: then the next call removes it.
# Variables: RELEASE (trixie), MIRROR, CHROOT (folder for it all: build-chroot/RELEASE), AS (root; "user" for an
# unprivileged one), KEEP (1: leaves the copy for a look, in CHROOT/system).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

RELEASE=${RELEASE:-trixie}
CHROOT=${CHROOT:-build-chroot/$RELEASE}
AS=${AS:-root}

skip() {
    echo "  skipped  chroot-check: $*"
    echo "excon: 0 passed, 0 failed, 1 skipped"
    exit 0
}

case $AS in
root | user) ;;
*)
    echo "chroot_check: AS is root or user, not '$AS'" >&2
    exit 64
    ;;
esac
[[ $RELEASE =~ ^[a-z]+$ ]] || { echo "chroot_check: RELEASE is a name like trixie, not '$RELEASE'" >&2; exit 64; }
[ "$(id -u)" = 0 ] || skip "needs root, for chroot"
command -v debootstrap >/dev/null || skip "needs debootstrap: apt-get install debootstrap"
mkdir -p "$CHROOT" || exit 73
CHROOT=$(cd "$CHROOT" && pwd)
bare=$CHROOT/bare root=$CHROOT/system log=$CHROOT/log

if [ -z "${CHROOT_CHECK_INSIDE:-}" ]; then
    unshare --mount --pid --fork true 2>/dev/null || skip "may not make namespaces here"
    exec 9>"$CHROOT/lock"
    flock -n 9 || { echo "chroot_check: $CHROOT is in use by another call; set CHROOT" >&2; exit 73; }
    rm -rf "$root"
    # setpriv: the rest dies with this shell. --kill-child: and with it all that it started.
    CHROOT_CHECK_INSIDE=1 CHROOT=$CHROOT setpriv --pdeathsig KILL \
        unshare --mount --propagation private --pid --fork --kill-child "$BASH" "scripts/${0##*/}" "$@" &
    inner=$! told=
    trap 'told=1; kill -KILL "$inner"' INT TERM HUP
    wait "$inner"
    code=$?
    [ -z "$told" ] || { sleep 1; code=130; } # until the last of them is gone
    [ "${KEEP:-0}" = 1 ] || rm -rf "$root"
    exit $code
fi

# From here on: the first process of a PID namespace, with mounts of its own.
if [ -z "${MIRROR:-}" ]; then # the one that this machine's own release comes from
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # apt expands it
    MIRROR=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 2>/dev/null |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    MIRROR=${MIRROR:-http://deb.debian.org/debian}
fi
apt_settings() { apt-config dump Acquire 2>/dev/null | grep -E '^Acquire::(http|https|Check|Retries|Force)' | grep -v ' "";$'; }
proxy=$(apt-config dump Acquire 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
[ -z "$proxy" ] || export http_proxy=$proxy # of debootstrap

if [ ! -e "$bare/.complete" ]; then
    echo "chroot-check: a bare $RELEASE from $MIRROR, in $bare"
    rm -rf "$bare"
    debootstrap --variant=minbase "$RELEASE" "$bare" "$MIRROR" >"$log" 2>&1 ||
        skip "debootstrap $RELEASE from $MIRROR failed: $(grep -E '^[EW]:' "$log" | tail -n 1); see $log, set MIRROR"
    touch "$bare/.complete"
fi
cp -a "$bare" "$root" || exit 74
mkdir -p "$CHROOT/packages/partial"
mount_all() {
    mount --bind "$CHROOT/packages" "$root/var/cache/apt/archives" && mount --rbind /dev "$root/dev" &&
        mount -t tmpfs tmpfs "$root/dev/shm" && mount -t proc proc "$root/proc" && mount -t sysfs -o ro sysfs "$root/sys"
}
mount_all || skip "cannot mount in $root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
apt_settings >"$root/etc/apt/apt.conf.d/90host"
echo 'APT::Keep-Downloaded-Packages "true";' >>"$root/etc/apt/apt.conf.d/90host"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || { # a mirror by https, before the system has certificates of its own
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

inside() { # WHO, COMMAND...
    local who=$1 home=/root
    shift
    [ "$who" = root ] || home=/home/$who
    chroot --userspec="$who:$who" "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$home" LC_ALL=C.UTF-8 "$@"
}
as=root home=/root
if [ "$AS" = user ]; then
    as=excon home=/home/excon
    inside root useradd --create-home --shell /bin/bash excon || exit 70
fi
tree=$root$home/excon
mkdir -p "$tree"
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar -c --null --files-from=- | tar -x -C "$tree"
else
    tar -c --exclude=./build --exclude='./build-*' . | tar -x -C "$tree"
fi
chown -R "$(stat -c %u:%g "$root$home")" "$tree"

passed=0 failed=0 skipped=0
count() { # NAME, STATUS
    if [ "$2" = 0 ]; then
        echo "  ok      $1"
        passed=$((passed + 1))
    else
        echo "  FAILED  $1: exit status $2"
        failed=$((failed + 1))
    fi
}

inside root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -q && apt-get install -y --no-install-recommends make' >"$log" 2>&1 ||
    { tail -n 20 "$log"; skip "packages of $RELEASE cannot be installed from $MIRROR"; }
if [ "$AS" = user ]; then
    inside root sh -c "cd $home/excon && scripts/deps.sh" >"$log" 2>&1
    count deps $?
fi
inside "$as" make -C "$home/excon" demo 2>&1 | tee "$log"
count demo "${PIPESTATUS[0]}"
inside "$as" make -C "$home/excon" test TEST="$*" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
counts=$(sed -nE 's/^excon: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" | tail -n 1)
if [ -n "$counts" ]; then
    read -r good bad left <<<"$counts"
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
    [ "$code" = 0 ] || [ "$bad" -gt 0 ] || count tests "$code"
else
    count tests "${code/#0/70}"
fi

echo
echo "chroot-check: $(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' "$root/etc/os-release") $(cat "$root/etc/debian_version") as $as, on Linux $(uname -r), $(nproc) processors"
# shellcheck disable=SC2016 # dpkg-query expands it
inside root dpkg-query -W -f '  ${Package} ${Version}\n' gcc 'gcc-[0-9][0-9]' libc6 openmpi-bin libhdf5-dev libdnnl-dev libyaml-dev \
    libjpeg62-turbo-dev zlib1g-dev libssl-dev libcmocka-dev bash coreutils python3 2>/dev/null | grep -E ' [^ ]+$'
echo "excon: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
