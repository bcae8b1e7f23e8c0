#!/bin/sh
# Backs up a changing tree with snapkeep, encrypted and plain, restores every snapshot with the Python reader, and
# compares. Needs the packages of requirements.txt.
#
# roundtrip.sh SNAPKEEP [GENERATIONS [FOLDER]]     SNAPKEEP: the program. FOLDER: for everything made, removed at the end.
set -eu
snapkeep=$1
generations=${2:-24}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${3:-${TMPDIR:-/tmp}}/snapkeep-roundtrip-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
python=${PYTHON:-python3}
SNAPKEEP_INSECURE_FAST_KDF=1
XDG_CACHE_HOME=$work/cache
SNAPKEEP_NO_JOURNAL=1
export SNAPKEEP_INSECURE_FAST_KDF XDG_CACHE_HOME SNAPKEEP_NO_JOURNAL
unset SNAPKEEP_PASSWORD SNAPKEEP_REPO || true
umask 022

fail() {
    echo "roundtrip: $*" >&2
    exit 1
}
with() {  # with REPOSITORY COMMAND..: runs the command with the repository's password, if it has one
    repo=$1
    shift
    if [ "$repo" = encrypted ]; then SNAPKEEP_PASSWORD='correct horse' "$@"; else "$@"; fi
}
reader() {
    repo=$1
    shift
    with "$repo" "$python" "$here/snapkeep_reader.py" "$work/$repo" "$@"
}

"$python" "$here/check_vectors.py"
"$python" "$here/roundtrip.py" make "$work/tree"
with encrypted "$snapkeep" -q -r "$work/encrypted" init
with plain "$snapkeep" -q -r "$work/plain" init --no-encryption
n=0
while [ "$n" -lt "$generations" ]; do
    [ "$n" -eq 0 ] || "$python" "$here/roundtrip.py" change "$work/tree" "$n"
    "$python" "$here/roundtrip.py" describe "$work/tree" "$work/wanted-$n"
    for repo in encrypted plain; do
        with "$repo" "$snapkeep" -q -r "$work/$repo" backup "$work/tree" || fail "backup $n into $repo failed"
    done
    n=$((n + 1))
done

prove() {  # prove REPOSITORY: what the reader restores of every generation is what was backed up
    repo=$1
    at=$work/proof-$repo
    mkdir "$at"
    reader "$repo" check > "$at/checked" || fail "the reader's check of $repo failed: $(cat "$at/checked")"
    cat "$at/checked"
    if [ "$generations" -gt 9 ] && ! grep -Eq 'up to ([2-9]|[1-9][0-9]) deep' "$at/checked"; then
        fail "no chunk of $repo was stored against an older version of itself twice: this proves less than it should"
    fi
    reader "$repo" snapshots > "$at/list"
    [ "$(wc -l < "$at/list")" -eq "$generations" ] || fail "$repo has another number of snapshots than backups"
    n=0
    while read -r id _; do
        reader "$repo" restore "$id" "$at/found" || fail "restoring generation $n from $repo failed"
        "$python" "$here/roundtrip.py" compare "$work/wanted-$n" "$at/found$work/tree" ||
            fail "generation $n restored from $repo differs"
        chmod -R u+rwx "$at/found"
        rm -rf "$at/found"
        n=$((n + 1))
    done < "$at/list"
    [ "$n" -eq "$generations" ] || fail "only $n generations of $repo were restored"
}
# Both at once, each in a shell of its own, which does not tidy up when it ends; `wait` tells how it ended.
(trap - EXIT; prove encrypted) &
encrypted=$!
(trap - EXIT; prove plain) &
plain=$!
wait "$encrypted"
wait "$plain"

# What is forgotten is no longer the latest, and can be read by its id.
for repo in encrypted plain; do
    last=$(reader "$repo" snapshots | tail -n 1 | cut -d ' ' -f 1)
    with "$repo" "$snapkeep" -q -r "$work/$repo" forget latest
    reader "$repo" snapshots | grep -q "^$last .* forgotten$" || fail "the reader does not see a tombstone in $repo"
    reader "$repo" ls "$last" > "$work/by-id" || fail "a forgotten snapshot of $repo cannot be read"
    reader "$repo" ls latest > "$work/latest" || fail "$repo has no latest any more"
    if cmp -s "$work/by-id" "$work/latest"; then fail "a forgotten snapshot of $repo is the latest"; fi
    with "$repo" "$snapkeep" -q -r "$work/$repo" undelete latest
    reader "$repo" ls latest | cmp -s - "$work/by-id" || fail "what came back to $repo is something else"
done

# The reader refuses what it should.
if SNAPKEEP_PASSWORD=wrong "$python" "$here/snapkeep_reader.py" "$work/encrypted" snapshots 2> /dev/null; then
    fail "a wrong password was accepted"
fi
if SNAPKEEP_PASSWORD=any "$python" "$here/snapkeep_reader.py" "$work/plain" snapshots 2> /dev/null; then
    fail "a password was accepted for a repository without one"
fi
for repo in encrypted plain; do
    pack=$(find "$work/$repo/packs" -type f | sort | head -n 1)
    chmod u+w "$pack"
    "$python" - "$pack" << 'END'
import os, sys
with open(sys.argv[1], "r+b") as f:
    at = os.path.getsize(sys.argv[1]) // 3
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 4]))
END
    if reader "$repo" check > /dev/null 2>&1; then
        fail "one changed bit in a pack of $repo was not found"
    fi
    # What a repair leaves is as good as new, for the reader too.
    with "$repo" "$snapkeep" -q -r "$work/$repo" repair packs --apply 2> /dev/null || fail "repairing $repo failed"
    reader "$repo" check > "$work/checked" || fail "$repo is not sound after its repair: $(cat "$work/checked")"
    reader "$repo" restore latest "$work/found" || fail "restoring from the repaired $repo failed"
    "$python" "$here/roundtrip.py" compare "$work/wanted-$((generations - 1))" "$work/found$work/tree" ||
        fail "what was restored from the repaired $repo differs"
    chmod -R u+rwx "$work/found"
    rm -rf "$work/found"
done
echo "roundtrip: $generations generations, encrypted and plain, restored and equal"
