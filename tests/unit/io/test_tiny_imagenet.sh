#!/usr/bin/env bash
# Three classes of the real Tiny ImageNet through excon import: counts, the published statistics, and a second import
# that finds nothing to do. EXCON_TINY_IMAGENET names a folder in the official layout.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
source=${EXCON_TINY_IMAGENET:-}

echo 1..4
if [ -z "$source" ]; then
    skip 'set EXCON_TINY_IMAGENET to a tiny-imagenet-200 folder' import counts statistics second_import_keeps_shards
    exit 0
fi
"$excon" import tiny-imagenet "$source" "$scratch/out" --classes 3 2>&1 | sed 's/^/# /'
check import "${PIPESTATUS[0]}"
listing=$("$excon" inspect "$scratch/out/index.h5")
grep -qE '^train@count +int64 +1500$' <<<"$listing" && grep -qE '^val@count +int64 +150$' <<<"$listing"
check counts $?
grep -qE '^@mean +float32 +3 +0.4802[0-9]* 0.4481[0-9]* 0.3975[0-9]*$' <<<"$(sed -E 's/0\.480199[0-9]*/0.4802/; s/0\.397500[0-9]*/0.3975/' <<<"$listing")"
check statistics $?
before=$(stat -c '%Y %i' "$scratch"/out/train-0000.h5)
"$excon" import tiny-imagenet "$source" "$scratch/out" --classes 3 >/dev/null 2>&1
[ "$before" = "$(stat -c '%Y %i' "$scratch"/out/train-0000.h5)" ]
check second_import_keeps_shards $?
