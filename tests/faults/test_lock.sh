#!/usr/bin/env bash
# One run per folder: a second run ends with 73, names the holder and touches nothing; a lock whose holder was killed, or
# that names a living process which holds nothing, is taken over.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..8
make_data
printf 'method: excon\ntrain: {epochs: 2000, batch: 16, log_every: 1}\n' | make_run held
start held 2
await_step held 5
holder=$(pgrep -P "$job" | sort -n | head -n 1)
config=$(sha256sum <"$scratch/held/run/config.yaml")
(cd "$scratch/held" && "$mpirun" -n 2 "$excon" train config.yaml --set seed=7) >"$scratch/second" 2>&1 </dev/null
[ $? = 73 ]
check second.exits_73 $? "$scratch/second"
grep -q "run/lock is held by process $holder on $(hostname) since " "$scratch/second"
check second.names_the_holder $? "$scratch/second"
[ "$config" = "$(sha256sum <"$scratch/held/run/config.yaml")" ]
check second.touches_nothing $?
(cd "$scratch/held" && "$excon" train config.yaml) >"$scratch/second" 2>&1 </dev/null
[ $? = 73 ]
check second.without_mpirun_73 $? "$scratch/second"
step=$(last_step held)
await_step held $((step + 3))
check holder_goes_on $? "$scratch/held/log"

end_job
[ -s "$scratch/held/run/lock" ]
check killed_holder_leaves_lock $?
for _ in $(seq 50); do kill -0 "$holder" 2>/dev/null || break; sleep 0.1; done
step=$(sed -nE 's/.*saved step ([0-9]+).*/\1/p' "$scratch/held/run/logs/rank-0000.log" | tail -n 1)
train held 2 --set train.max_steps=$((step + 3))
check stale_lock_recovered $? "$scratch/held/log"
echo "$(hostname) 1 1700000000 $(cat /proc/sys/kernel/random/boot_id) 1" >"$scratch/held/run/lock"
train held 2 --set train.max_steps=$((step + 5)) && [ ! -e "$scratch/held/run/lock" ]
check foreign_text_recovered $? "$scratch/held/log"
