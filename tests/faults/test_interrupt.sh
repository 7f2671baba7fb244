#!/usr/bin/env bash
# At a terminal: Ctrl-C saves at the step boundary and ends with 75, a second one ends at once; so does the terminal's end;
# scripts/preemptible.sh keeps the terminal's signals from mpirun. status.json never goes on saying "training".
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh
preemptible=$PWD/scripts/preemptible.sh

echo 1..14
make_data

# at_terminal FOLDER STEP ACTION COMMAND...   Runs the command on a terminal of its own; once metrics.jsonl has STEP (of
# this start): `interrupt` types Ctrl-C, `twice` types it again when the first was answered, `hang-up` closes the terminal.
# What is printed goes to FOLDER/log. Returns the command's code, 128 + its signal.
at_terminal() { python3 - "$@" <<'END'
import errno, os, pty, re, select, signal, sys, time

folder, step, action, command = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
os.chdir(folder)
pid, master = pty.fork()
if pid == 0:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)
log = open("log", "wb")
text, stage, end = b"", 0, time.time() + 120
while time.time() < end:
    readable = master is not None and select.select([master], [], [], 0.02)[0]
    if master is None:
        time.sleep(0.02)
    if readable:
        try:
            part = os.read(master, 65536)
        except OSError as failure:
            part = b""
        if not part:
            break
        text += part
        log.write(part)
        log.flush()
    if stage == 0:
        try:
            steps = re.findall(r'"event":"step".*?"step":(\d+)', open("run/metrics.jsonl").read())
        except FileNotFoundError:
            steps = []
        if steps and int(steps[-1]) >= step:
            stage = 1
            if action == "twice":
                time.sleep(0.3)  # into the next step
            if action == "hang-up":
                os.close(master)
                master = None
            else:
                os.write(master, b"\x03")
    elif stage == 1 and action == "twice" and b"Ctrl-C again" in text:
        stage = 2
        os.write(master, b"\x03")
    if master is None and os.waitpid(pid, os.WNOHANG)[0]:
        sys.exit(0)
if time.time() >= end:
    os.kill(pid, signal.SIGKILL)
status = os.waitpid(pid, 0)[1]
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
END
}
state() { sed -nE 's/.*"state":"([^"]*)".*/\1/p' "$scratch/$1/run/status.json"; }
saved() { # NAME: a checkpoint of the step that was recorded last
    local step
    step=$(last_step "$1")
    grep -q "state saved at step $step;" "$scratch/$1/log" && [ -e "$(checkpoint "$1" "$step")" ]
}

settings() { printf 'method: ce\ntrain: {epochs: 400, batch: 16, log_every: 1}\noptim: {lr: 0.01}\n'; }
settings | make_run alone
at_terminal "$scratch/alone" 3 interrupt "$excon" train config.yaml
[ $? = 75 ]
check ctrl_c.exits_75 $? "$scratch/alone/log"
grep -q 'stopping after this step; Ctrl-C again: at once' "$scratch/alone/log"
check ctrl_c.is_answered $? "$scratch/alone/log"
saved alone
check ctrl_c.saved $? "$scratch/alone/log"
[[ $(state alone) != training ]]
check ctrl_c.state $? "$scratch/alone/run/status.json"
step=$(last_step alone)
train alone 1 --set train.max_steps=$((step + 3)) && grep -q "resumed from step $step," "$scratch/alone/log" &&
    each_step_once alone $((step + 3))
check ctrl_c.goes_on $? "$scratch/alone/log"

# Steps of a second or so, and no epoch's end behind the first: the second Ctrl-C does not wait for one.
{ settings | sed 's/batch: 16/batch: 72/'; } | make_run slow
sed -i 's/width: 4/width: 80/' "$scratch/slow/config.yaml"
at_terminal "$scratch/slow" 1 twice "$excon" train config.yaml
[ $? = 130 ]
check again.at_once $? "$scratch/slow/log"
[[ $(state slow) = stopping ]]
check again.state $? "$scratch/slow/run/status.json"
train slow 1 --set train.max_steps=2
check again.goes_on $? "$scratch/slow/log"

# Killed before the step boundary, as by mpirun two seconds after TERM.
rm -rf "$scratch/slow/run"
(cd "$scratch/slow" && exec "$excon" train config.yaml) >"$scratch/slow/log" 2>&1 </dev/null &
job=$!
await_step slow 1
kill -TERM "$job"
milliseconds 100
kill -KILL "$job"
finish 2>/dev/null
[[ $(state slow) != training ]]
check killed.state $? "$scratch/slow/run/status.json"

# The terminal is closed: nobody waits for the run, which saves all the same.
settings | make_run hung
at_terminal "$scratch/hung" 3 hang-up "$excon" train config.yaml
for _ in {1..100}; do
    [ -e "$scratch/hung/run/lock" ] || break
    sleep 0.1
done
[ -e "$(checkpoint hung "$(last_step hung)")" ] && [[ $(state hung) != training ]]
check hang_up.saved $? "$scratch/hung/run/logs/rank-0000.log"

# Two ranks: the terminal signals preemptible.sh alone.
settings | make_run ranks
at_terminal "$scratch/ranks" 3 interrupt "$preemptible" "$mpirun" -n 2 "$excon" train config.yaml
[ $? = 75 ]
check ranks.exits_75 $? "$scratch/ranks/log"
saved ranks && grep -q 'Ctrl-C again' "$scratch/ranks/log"
check ranks.saved $? "$scratch/ranks/log"
[[ $(state ranks) != training ]]
check ranks.state $? "$scratch/ranks/run/status.json"

# Started to run on without a terminal (nohup): the signals it ignores stay ignored.
settings | make_run nohup
(cd "$scratch/nohup" && trap '' HUP INT && exec "$excon" train config.yaml --set train.max_steps=60) >"$scratch/nohup/log" 2>&1 </dev/null &
job=$!
await_step nohup 3
kill -HUP "$job"
kill -INT "$job"
finish && [ "$(last_step nohup)" = 60 ]
check ignored_stays_ignored $? "$scratch/nohup/log"
