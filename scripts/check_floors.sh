#!/usr/bin/env bash
# Holds the direction of includes: prints file:line of each that points the wrong way, and fails if there is one.
#
# usage: scripts/check_floors.sh [ROOT]      (a checkout; default: the one this script lies in)
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/.." && pwd)}
cd "$root"

# THE table. A room may include itself, the rooms of the last column, and, with a floor, every room of a lower floor; of
# its own floor too, as long as no circle comes of it. A folder stands for what lies in it; the longest name counts.
#   room              floor  and outside the floors
rooms='
    kernels           -
    comm              -      kernels
    io                -      kernels
    trainer/config    1      kernels io
    trainer/model     2      kernels comm
    trainer/data      3      kernels io
    trainer/optim     3      kernels comm
    trainer/method    4      kernels comm
    trainer/evaluate  5      kernels comm io
    trainer/report    6      kernels comm io
    trainer/run       6      kernels comm io
    trainer/probe     7      kernels comm io
    trainer/bench     7      kernels comm io
    trainer/daemon    7      kernels comm io
    trainer/cli       7      kernels comm io
'
# Folders that are for their own room alone, and who else may include them. The longest name counts.
private='
    kernels/cpu           -
    kernels/cuda          -
    kernels/cuda/device   comm/nccl
'
# Headers of others, and the one room that may name them.
foreign='
    mpi.h        comm
    nccl.h       comm
    hdf5.h       io/hdf5
    hdf5_hl.h    io/hdf5
    jpeglib.h    io/images
    yaml.h       trainer/config
    dnnl.h       kernels
'

find kernels comm io trainer -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -print0 2>/dev/null |
    sort -z | xargs -0 -r grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null |
    awk -v rooms="$rooms" -v private="$private" -v foreign="$foreign" '
function room_of(path,   room, best) {
    best = ""
    for (room in floor)
        if (index(path, room "/") == 1 && length(room) > length(best))
            best = room
    return best
}
# Whether a header is private to a room that the file does not lie in.
function is_private(file, room, header,   name, best) {
    best = ""
    for (name in guest)
        if (index(header "/", name "/") == 1 && length(name) > length(best))
            best = name
    return best != "" && room_of(best "/") != room && index(file, guest[best] "/") != 1
}
function wrong(place, text) {
    print place ": " text
    errors++
}
function may_include(room, other) {
    return room == other || index(outside[room], " " other " ") || \
           (floor[room] != "-" && floor[other] != "-" && floor[other] < floor[room])
}
BEGIN {
    n = split(rooms, line, "\n")
    for (i = 1; i <= n; i++) {
        words = split(line[i], word, " ")
        if (words == 0)
            continue
        floor[word[1]] = word[2] == "-" ? "-" : word[2] + 0
        outside[word[1]] = " "
        for (w = 3; w <= words; w++)
            outside[word[1]] = outside[word[1]] word[w] " "
    }
    n = split(private, line, "\n")
    for (i = 1; i <= n; i++)
        if (split(line[i], word, " ") == 2)
            guest[word[1]] = word[2]
    n = split(foreign, line, "\n")
    for (i = 1; i <= n; i++)
        if (split(line[i], word, " ") == 2)
            owner[word[1]] = word[2]
}
{
    split($0, part, ":")
    file = part[1]
    place = file ":" part[2]
    room = room_of(file)
    if (room == "") {
        if (!(file in reported))
            wrong(place, "this folder is in no line of the table of " "scripts/check_floors.sh")
        reported[file] = 1
        next
    }
    header = $0
    system_header = header ~ /include[ \t]*</
    sub(/^[^"<]*["<]/, "", header)
    sub(/[">].*$/, "", header)
    if (system_header) {
        if ((header in owner) && index(file, owner[header] "/") != 1)
            wrong(place, "<" header "> is for " owner[header] "/ alone")
        next
    }
    if (header !~ /^(kernels|comm|io|trainer)\// || header ~ /\.\.\//) {
        wrong(place, "\"" header "\" is not named from the root of the sources")
        next
    }
    other = room_of(header)
    if (other == "") {
        wrong(place, "\"" header "\": its folder is in no line of the table of scripts/check_floors.sh")
    } else if (is_private(file, room, header)) {
        wrong(place, "\"" header "\" is for " other "/ alone")
    } else if (!may_include(room, other)) {
        if (floor[room] != "-" && floor[room] == floor[other]) {
            reaches[room, other] = 1
            sideways[++arrows] = place SUBSEP room SUBSEP other
        } else {
            wrong(place, room "/ may not include " other "/")
        }
    }
}
END {
    for (k in floor)
        for (i in floor)
            for (j in floor)
                if (reaches[i, k] && reaches[k, j])
                    reaches[i, j] = 1
    for (a = 1; a <= arrows; a++) {
        split(sideways[a], part, SUBSEP)
        if (reaches[part[3], part[2]])
            wrong(part[1], part[2] "/ includes " part[3] "/, which includes it: a circle")
    }
    if (errors)
        printf "excon: %d include%s the wrong way\n", errors, errors == 1 ? "" : "s"
    exit errors > 0
}' >&2
