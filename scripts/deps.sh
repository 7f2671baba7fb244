#!/usr/bin/env bash
# deps.sh [PACKAGE]...   Installs the Debian or Ubuntu packages that excon needs, and those named; does nothing when all are
# here.
#
# Needs root, or sudo without a password; otherwise prints the command to run and exits with 71. Other distributions:
# prints what to install and exits with 71.
set -euo pipefail

packages=(gcc g++ make pkg-config openmpi-bin libopenmpi-dev libhdf5-dev libyaml-dev libdnnl-dev
    libjpeg-dev zlib1g-dev libssl-dev libcmocka-dev python3 procps "$@") # the last four for make test

distribution=unknown
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    distribution=$(. /etc/os-release && echo "${ID:-} ${ID_LIKE:-}")
fi
case " $distribution " in
*" debian "* | *" ubuntu "*) ;;
*)
    echo "deps.sh: knows Debian and Ubuntu only. Install what matches these Debian packages:" >&2
    echo "  ${packages[*]}" >&2
    exit 71
    ;;
esac

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1 || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
    echo "deps.sh: every package is here"
    exit 0
fi

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" = 0 ]; then
    as_root=(env DEBIAN_FRONTEND=noninteractive)
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
else
    echo "deps.sh: missing ${missing[*]}. Run:" >&2
    echo "  sudo apt-get update && sudo ${install[*]}" >&2
    exit 71
fi
echo "deps.sh: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" "${install[@]}"
