# shellcheck shell=sh
# Sourced by the comparison scripts: finds a Python with PyTorch and the program, and fixes the thread count.

need_peer() {
    for PYTHON in "${PYTHON:-}" python3 /usr/bin/python3; do
        if [ -n "$PYTHON" ] && "$PYTHON" -c 'import torch' 2>/dev/null; then
            return 0
        fi
    done
    echo "$0: no Python with PyTorch here, so there is no peer to compare with." >&2
    echo "  Debian and Ubuntu: apt-get install python3-torch   or set PYTHON to one that has it." >&2
    exit 66
}

need_excon() {
    EXCON=${EXCON:-build/excon}
    if [ ! -x "$EXCON" ]; then
        echo "$0: there is no $EXCON; run make first, or set EXCON." >&2
        exit 66
    fi
}

THREADS=${THREADS:-2}
export OMP_NUM_THREADS="$THREADS"
