#!/usr/bin/env bash
# scripts/check_floors.sh: finds every kind of include that points the wrong way, planted in a copy of the sources, names
# its place, and lets those pass that are allowed.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
cp -r kernels comm io trainer "$scratch"
look() {
    scripts/check_floors.sh "$scratch" >"$scratch/log" 2>&1
}
# plant FILE HEADER...   a file that includes these and nothing else
plant() {
    local file=$scratch/$1
    shift
    mkdir -p "$(dirname "$file")"
    printf '#include %s\n' "$@" >"$file"
}

forbidden=(
    'kernels/base comm/comm.h' 'kernels/cuda/device io/files/files.h' 'kernels trainer/config/config.h'
    'comm io/files/files.h' 'comm/nccl trainer/model/model.h' 'io/loader comm/comm.h' 'io/records trainer/config/config.h'
    'trainer/config comm/comm.h' 'trainer/config trainer/cli/options.h' 'trainer/model trainer/method/step.h'
    'trainer/model io/files/files.h' 'trainer/data trainer/optim/../run/x.h' 'trainer/optim trainer/method/step.h'
    'trainer/method trainer/evaluate/evaluator.h' 'trainer/method io/loader/loader.h' 'trainer/evaluate trainer/run/run.h'
    'trainer/evaluate trainer/report/page.h' 'trainer/run trainer/cli/options.h' 'trainer/report trainer/probe/session.h'
    'trainer/run/deeper trainer/bench/bench.h'
    'trainer/run kernels/cpu/device/internal.h' 'comm kernels/cuda/device/stream.h' 'comm/nccl kernels/cuda/threads/x.h'
    'io/images kernels/cuda/threads/launch.cuh'
)
allowed=(
    'comm/nccl kernels/cuda/device/stream.h' 'kernels/cuda/device kernels/cuda/threads/launch.cuh' 'trainer/run kernels/device.h'
    'kernels/cpu kernels/ops.h' 'comm kernels/ops.h' 'io/import io/files/files.h' 'io kernels/ops.h'
    'trainer/config io/files/files.h' 'trainer/config trainer/config/keys/keys.h' 'trainer/data io/loader/loader.h'
    'trainer/method trainer/data/feed.h' 'trainer/method trainer/optim/optimiser.h' 'trainer/evaluate comm/comm.h'
    'trainer/run/deeper trainer/run/other/x.h' 'trainer/report trainer/evaluate/evaluator.h' 'trainer/run trainer/report/page.h'
    'trainer/cli trainer/bench/bench.h' 'trainer/daemon trainer/run/run.h' 'trainer/optim trainer/model/model.h'
)
system_forbidden=('kernels/base mpi.h' 'io/files mpi.h' 'trainer/run mpi.h' 'kernels/cpu hdf5.h' 'trainer/probe hdf5.h' 'comm hdf5_hl.h' 'io/dataset hdf5.h' 'io/import jpeglib.h'
    'kernels yaml.h' 'io/dataset yaml.h' 'trainer/cli yaml.h' 'trainer/evaluate jpeglib.h' 'trainer/method dnnl.h' 'trainer/run nccl.h')
system_allowed=('comm mpi.h' 'io/hdf5 hdf5.h' 'trainer/config yaml.h' 'io/images jpeglib.h' 'kernels/cpu/products dnnl.h' 'comm/nccl nccl.h' 'trainer/cli stdio.h')
echo 1..$((${#forbidden[@]} + ${#allowed[@]} + ${#system_forbidden[@]} + ${#system_allowed[@]} + 7))

look
check "the sources as they are pass" $?

# try WANTED(pass|fail) FILE HEADER
try() {
    local code=0 named=0
    plant "$2" '<stdio.h>' "$3"
    look || code=$?
    if [ "$1" = fail ]; then
        grep -q "^$2:2: " "$scratch/log" || named=1
        [ $code = 1 ] && [ $named = 0 ]
        check "$2 may not include $3" $?
    else
        check "$2 may include $3" $code
    fi
    rm "$scratch/$2"
}
for pair in "${forbidden[@]}"; do try fail "${pair% *}/planted.c" "\"${pair#* }\""; done
for pair in "${allowed[@]}"; do try pass "${pair% *}/planted.h" "\"${pair#* }\""; done
for pair in "${system_forbidden[@]}"; do try fail "${pair% *}/planted.cu" "<${pair#* }>"; done
for pair in "${system_allowed[@]}"; do try pass "${pair% *}/planted.c" "<${pair#* }>"; done

# Folders of one floor: one way is allowed, a circle is not, over three folders neither. The headers need not exist.
plant trainer/cli/planted.c '"trainer/probe/session.h"'
look
check "one folder of a floor includes another" $?
plant trainer/probe/planted.c '"trainer/daemon/serve.h"'
look
check "and that a third" $?
plant trainer/daemon/planted.c '"trainer/cli/options.h"'
! look && grep -q '^trainer/daemon/planted.c:1: .*a circle' "$scratch/log" && grep -q '^trainer/cli/planted.c:1: ' "$scratch/log"
check "which includes the first: a circle" $?
rm "$scratch"/trainer/{cli,probe,daemon}/planted.c
plant trainer/optim/planted.c '"trainer/data/feed.h"'
plant trainer/data/planted.c '"trainer/optim/optimiser.h"'
! look && [ "$(grep -c 'a circle' "$scratch/log")" = 2 ]
check "two folders of a floor include each other: a circle" $?
rm "$scratch"/trainer/{optim,data}/planted.c

plant trainer/unheard/planted.c '<stdio.h>'
! look && grep -q '^trainer/unheard/planted.c:1: .*no line of the table' "$scratch/log"
check "a folder that the table does not have" $?
rm -r "$scratch/trainer/unheard"
plant trainer/cli/planted.c '"options.h"'
! look && grep -q '^trainer/cli/planted.c:1: .*not named from the root' "$scratch/log"
check "a header that is not named from the root" $?
