#!/usr/bin/env bash
# scripts/slurm/train.sbatch: the job's exit code is the run's, only a saved run is requeued, and not without end. mpirun
# and scontrol are stand-ins on PATH.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
echo 1..11

mkdir -p "$scratch/bin" "$scratch/spool"
cp scripts/slurm/train.sbatch "$scratch/spool/slurm_script" # Slurm runs a copy, elsewhere
cat >"$scratch/bin/mpirun" <<'END'
#!/bin/bash
echo "mpirun $* (kill after $OMPI_MCA_odls_base_sigkill_timeout)"
if [ "$FAKE_CODE" = wait ]; then
    trap 'exit 75' USR2
    touch "$FAKE_READY"
    while :; do sleep 0.02; done
fi
exit "$FAKE_CODE"
END
cat >"$scratch/bin/scontrol" <<'END'
#!/bin/bash
echo "scontrol $*"
exit "${FAKE_SCONTROL:-0}"
END
chmod +x "$scratch"/bin/*
export PATH=$scratch/bin:$PATH SLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=42 EXCON=/bin/true FAKE_READY=$scratch/ready

job() { # CODE, ARGUMENT...
    local code=$1
    shift
    (cd "$scratch/spool" && FAKE_CODE=$code bash ./slurm_script "$@") >"$scratch/log" 2>&1
}
requeued() { grep -qx 'scontrol requeue 42' "$scratch/log"; }

job 0 c.yaml --set seed=2 && ! requeued
check complete $?
grep -qx 'mpirun /bin/true train c.yaml --set seed=2 (kill after 8)' "$scratch/log"
check command $?
for code in 78 1 80 137; do
    job $code c.yaml
    [ $? = $code ] && ! requeued
    check "failed_$code" $?
done
job 75 c.yaml
[ $? = 75 ] && requeued
check saved_is_requeued $?
SLURM_RESTART_COUNT=3 REQUEUE_MAX=3 job 75 c.yaml
[ $? = 75 ] && ! requeued && grep -q 'not requeued' "$scratch/log"
check not_for_ever $?
FAKE_SCONTROL=1 job 75 c.yaml
[ $? = 75 ] && grep -q 'could not requeue' "$scratch/log"
check scontrol_failed $?
job 0
[ $? = 64 ]
check usage $?

# The signal of --signal=B:USR2 goes to the batch shell alone.
(cd "$scratch/spool" && FAKE_CODE="wait" exec bash ./slurm_script c.yaml) >"$scratch/log" 2>&1 &
shell=$!
for _ in {1..500}; do [ ! -e "$scratch/ready" ] || break; sleep 0.02; done
kill -USR2 $shell
wait $shell
[ $? = 75 ] && requeued
check time_limit $?
