#!/bin/bash
# preemptible.sh COMMAND [ARGUMENT...]   Runs a command so that a scheduler's signal, or Ctrl-C, is never lost.
#
#   scripts/preemptible.sh mpirun -n 2 build/excon train CONFIG
#   . scripts/preemptible.sh mpirun build/excon train CONFIG     # within a batch script: the signals go to its shell
#
# From the first USR2, TERM, INT or HUP on, the command gets USR2 again and again until it ends: mpirun forwards none
# during its first tenth of a second, and the trainer's handler only sets a flag. A command that USR2 kills (140: mpirun
# or a rank was not listening yet) has written nothing, which is 75 like a saved state: run me again. Every other code
# is the command's own. Should it not end within PREEMPT_SECONDS (150) of the first signal, it gets TERM, and KILL 10
# seconds later. At a terminal the command gets a session of its own: Ctrl-C goes to this shell alone then, and not to
# mpirun, which would end the ranks within two seconds; a second Ctrl-C sends the command TERM, which does just that.
# Before this shell listens itself, for its first milliseconds, a signal just ends it: nothing has begun.

preemptible() {
    if [ $# = 0 ]; then
        echo 'usage: preemptible.sh COMMAND [ARGUMENT...]' >&2
        return 64
    fi
    local job='' told='' teller='' interrupted='' code again own=()
    trap 'told=1; tell_once' USR2 TERM HUP
    trap 'told=1; tell_once; interrupt' INT
    # A shell with job control has given the command a process group that the terminal does not signal.
    if [[ $- != *m* ]] && { : </dev/tty; } 2>/dev/null && [ "$(type -t "$1")" = file ] && command -v setsid >/dev/null; then
        own=(setsid)
    fi
    [ -n "$told" ] || {
        "${own[@]}" "$@" <&0 & # without a redirection of its own a background command reads /dev/null
        job=$!
        [ -z "$told" ] || tell_once # a signal that came before $job was known
    }
    code=75
    while [ -n "$job" ]; do
        code=0
        wait "$job" || code=$?
        kill -0 "$job" 2>/dev/null || break
    done
    # A trapped signal ends wait early, with that signal's code; asked once more, it gives the command's own.
    trap '' USR2 TERM INT HUP
    again=0
    wait "${job:-0}" 2>/dev/null || again=$?
    [ "$again" = 127 ] || code=$again
    [ -z "$teller" ] || {
        kill -KILL "$teller" 2>/dev/null || true
        wait "$teller" 2>/dev/null || true
    }
    # A batch script goes on and wants its signals back. This one ends, and one that comes now must not change how.
    [ "${BASH_SOURCE[0]}" = "$0" ] || trap - USR2 TERM INT HUP
    [ "$code" != $((128 + $(kill -l USR2))) ] || code=75
    return "$code"
}

# Within preemptible: starts the one teller; answers Ctrl-C.
tell_once() {
    if [ -n "$job" ] && [ -z "$teller" ]; then
        tell "$job" </dev/null >/dev/null 2>&1 &
        teller=$!
    fi
}

interrupt() {
    if [ -z "$interrupted" ]; then
        interrupted=1
        echo 'preemptible.sh: stopping after this step; Ctrl-C again: at once' >&2
    elif [ -n "$job" ]; then
        kill -TERM "$job" 2>/dev/null || true
    fi
}

tell() { # JOB: until it has ended
    trap '' USR2 TERM INT HUP
    local last=$((SECONDS + ${PREEMPT_SECONDS:-150})) i
    while kill -USR2 "$1"; do
        sleep 0.3
        ((SECONDS < last)) || break
    done
    kill -TERM "$1" || return 0
    for ((i = 0; i < 100; i++)); do
        sleep 0.1
        kill -0 "$1" || return 0
    done
    kill -KILL "$1"
}

preemptible "$@"
