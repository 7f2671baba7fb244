#!/usr/bin/env bash
# The progress bar on terminals of several widths, through a pseudo-terminal: always one row, without colours, and none
# where a row cannot be drawn again.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/runs.sh

echo 1..8
make_data
printf 'method: excon\ntrain: {epochs: 1, batch: 16, log_every: 1}\n' | make_run bar
cat >"$scratch/terminal.py" <<'P'
"""terminal.py COLUMNS COMMAND...   Runs the command on a pseudo-terminal of that width (0: of unknown width, 80 then) and
prints every byte it got to standard error and the rows of the screen, as a terminal leaves them, to standard output."""
import fcntl, os, pty, re, struct, sys, termios
columns = int(sys.argv[1])
width = columns or 80
ready, go = os.pipe()
pid, fd = pty.fork()
if pid == 0:
    os.read(ready, 1)  # not before the width is set
    os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
os.write(go, b"x")
data = b""
while True:
    try:
        part = os.read(fd, 65536)
    except OSError:
        break
    if not part:
        break
    data += part
sys.stderr.buffer.write(data)
rows, column = [""], 0
for item in re.findall("\x1b\\[[0-9;]*[A-Za-z]|.|\n|\r", data.decode()):
    if item == "\r":
        column = 0
    elif item == "\n":
        rows.append("")
        column = 0
    elif item[0] == "\x1b":
        if item[-1] == "K":
            rows[-1] = rows[-1][:column]
    else:
        if column == width:
            rows.append("")
            column = 0
        rows[-1] = rows[-1][:column] + item + rows[-1][column + 1:]
        column += 1
print("\n".join(rows))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
P

on_terminal() { # COLUMNS, COMMAND...: rows in $scratch/rows, bytes in $scratch/bytes
    rm -rf "$scratch/bar/run" "$scratch/bar/made"
    (cd "$scratch/bar" && python3 "$scratch/terminal.py" "$@") >"$scratch/rows" 2>"$scratch/bytes"
}

one_row() { # the step's loss was drawn several times, and stands in one row only
    [ "$(grep -c 'loss [0-9]*\.' "$scratch/rows")" = 1 ] && [ "$(tr '\r' '\n' <"$scratch/bytes" | grep -c 'loss [0-9]*\.')" -ge 5 ]
}

for columns in 120 80 40; do
    on_terminal $columns env TERM=xterm "$excon" train config.yaml && one_row && grep -q '^epoch .*loss' "$scratch/rows"
    check "train.$columns" $? "$scratch/rows"
done
on_terminal 0 env -u COLUMNS TERM=xterm NO_COLOR=1 "$excon" train config.yaml && one_row && ! grep -q $'\033\\[[0-9;]*m' "$scratch/bytes"
check train.unknown_width $? "$scratch/rows"
on_terminal 80 env TERM=dumb "$excon" train config.yaml && ! grep -q $'\033' "$scratch/bytes" && [ "$(grep -c 'loss [0-9]*\.' "$scratch/rows")" -ge 5 ]
check train.dumb_terminal $? "$scratch/rows"
rm -rf "$scratch/bar/run"
train bar 1 && ! grep -q $'[\033\r]' "$scratch/bar/log" && [ "$(grep -c 'loss [0-9]*\.' "$scratch/bar/log")" -ge 5 ]
check train.no_terminal $? "$scratch/bar/log"
synthetic=(import synthetic made --classes 4 --size 64 --train-per-class 40 --val-per-class 8)
on_terminal 40 env TERM=xterm "$excon" "${synthetic[@]}" && grep -q 'images/s' "$scratch/bytes" && [ "$(grep -c '160 train' "$scratch/rows")" = 1 ] &&
    ! grep -q '^.*| [0-9]* images/s$' "$scratch/rows"
check import.40 $? "$scratch/rows"
on_terminal 40 env TERM=dumb "$excon" "${synthetic[@]}" && ! grep -q $'\033' "$scratch/bytes"
check import.dumb_terminal $? "$scratch/rows"
