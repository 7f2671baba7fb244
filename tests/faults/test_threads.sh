#!/usr/bin/env bash
# Threads are the user's and the container's to give: limits of OpenMP, an affinity and a CPU quota are kept, the step does
# not wait for threads that it was not given, and the banner says how many there are and why.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..10
make_data
unset OMP_NUM_THREADS OMPI_MCA_hwloc_base_binding_policy
first=$(sed -nE 's/^Cpus_allowed_list:[[:space:]]*([0-9]+).*/\1/p' /proc/self/status)
threads() { sed -nE "s/^rank $1: .*[ ,]([0-9]+) threads?, .*/\1/p" "$scratch/$2/log"; }
why() { sed -nE "s/^rank $1: .*\(threads: (.*)\)$/\1/p" "$scratch/$2/log"; }

step() { # NAME, then a command to put before the program, or nothing: one step; 137 when it did not come back
    local name=$1
    shift
    make_run "$name" <<<$'method: ce\ntrain: {epochs: 1, batch: 64, max_steps: 1}'
    (cd "$scratch/$name" && timeout -s KILL 60 "$@" "$excon" train config.yaml --set model.width=16) >"$scratch/$name/log" 2>&1 </dev/null
}

step limit env OMP_NUM_THREADS=4 OMP_THREAD_LIMIT=2 && [ "$(threads 0 limit)" = 2 ]
check thread_limit $? "$scratch/limit/log"
[[ $(why 0 limit) == *OMP_THREAD_LIMIT=2* ]]
check thread_limit.said $? "$scratch/limit/log"
step serial env OMP_NUM_THREADS=3 OMP_MAX_ACTIVE_LEVELS=0 && [ "$(threads 0 serial)" = 1 ]
check no_parallel_levels $? "$scratch/serial/log"
step dynamic env OMP_NUM_THREADS=4 OMP_DYNAMIC=true && [ "$(threads 0 dynamic)" -le 4 ]
check dynamic $? "$scratch/dynamic/log"
step taskset taskset -c "$first" && [ "$(threads 0 taskset)" = 1 ]
check affinity $? "$scratch/taskset/log"
[[ $(why 0 taskset) == "1 of "* ]]
check affinity.said $? "$scratch/taskset/log"
step launcher taskset -c "$first" "$mpirun" -n 1 && [ "$(threads 0 launcher)" = 1 ]
check affinity_before_mpirun $? "$scratch/launcher/log"
step wanted env OMP_NUM_THREADS=3 "$mpirun" -n 1 && [ "$(threads 0 wanted)" = 3 ] && [[ $(why 0 wanted) == OMP_NUM_THREADS* ]]
check omp_num_threads $? "$scratch/wanted/log"

group=
quota=
new_group() { # a control group of one processor's time, where this system lets us make one
    local version1=/sys/fs/cgroup/cpu version2=/sys/fs/cgroup
    [ -d $version1 ] || version1=/sys/fs/cgroup/cpu,cpuacct
    if [ -f $version1/cpu.cfs_quota_us ] && mkdir $version1/excon-test-$$ 2>/dev/null; then
        group=$version1/excon-test-$$
        echo 100000 >$group/cpu.cfs_quota_us && quota=100000
    elif grep -qw cpu $version2/cgroup.subtree_control 2>/dev/null && mkdir $version2/excon-test-$$ 2>/dev/null; then
        group=$version2/excon-test-$$
        echo "100000 100000" >$group/cpu.max && quota=100000
    fi
} 2>/dev/null
new_group
if [ -n "$quota" ]; then
    step quota sh -c "echo \$\$ >$group/cgroup.procs && exec \"\$@\"" sh && [ "$(threads 0 quota)" = 1 ]
    check quota $? "$scratch/quota/log"
    [[ $(why 0 quota) == *"quota of 1 processor"* || $(nproc) = 1 ]]
    check quota.said $? "$scratch/quota/log"
else
    skip "no control group with a CPU quota can be made here" quota
    skip "no control group with a CPU quota can be made here" quota.said
fi
for _ in 1 2 3 4 5; do [ -z "$group" ] || rmdir "$group" 2>/dev/null && break; sleep 0.2; done
