#!/bin/sh
# Restores every snapshot of the golden repositories in tests/golden with the Python reader and compares the hashes.
# Needs the packages of requirements.txt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
golden=$here/../../tests/golden
work=$(mktemp -d "${TMPDIR:-/tmp}/snapkeep-golden-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
python=${PYTHON:-python3}
for archive in "$golden"/*.tar; do
    name=$(basename "$archive" .tar)
    repo=$work/$name
    # The archive holds files only; a repository has all its folders from the start.
    mkdir -p "$repo"
    for folder in config keys index sessions snapshots evicted notes condemned copies packs; do
        mkdir "$repo/$folder"
    done
    for high in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do
        for low in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do mkdir "$repo/packs/$high$low"; done
    done
    tar -xf "$archive" -C "$repo"
    mkdir "$work/$name-restored"
    unset SNAPKEEP_PASSWORD
    case $name in *encrypted*) SNAPKEEP_PASSWORD='golden word'; export SNAPKEEP_PASSWORD ;; esac
    for id in $(cut -c69-100 "$golden/$name.sums" | sort -u); do
        "$python" "$here/snapkeep_reader.py" "$repo" restore "$id" "$work/$name-restored/$id"
    done
    "$python" "$here/snapkeep_reader.py" "$repo" check
    (cd "$work/$name-restored" && sha256sum --quiet -c "$golden/$name.sums")
    echo "golden: $name is read to the byte"
done
