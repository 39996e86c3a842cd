#!/usr/bin/env bash
# Lets disks fill up and turn read-only under a preparation, a run and a cache, on small file systems in memory. Checks
# that each failure is reported, that complete files stay complete, and that the same command continues once there is
# space.
#
#   scripts/check-full-disk.sh       needs root (it mounts tmpfs) and about 3 minutes
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release
program="$PWD/target/release/caption-train"
folder=$(mktemp -d)
disk="$folder/disk"
mkdir "$disk"
mount -t tmpfs -o size=3m tmpfs "$disk"
trap 'umount "$disk"; rm -rf "$folder"' EXIT
cd "$folder"

# Runs a command that must fail with code 1 and print these words.
must_fail() {
    local words=$1 code=0
    shift
    "$@" >"$folder/out" 2>&1 || code=$?
    if [ "$code" != 1 ] || ! grep -qF -- "$words" "$folder/out" || ! grep -qF "hint: " "$folder/out"; then
        echo "expected exit code 1 and \"$words\" with a hint from: $*; found code $code and" >&2
        cat "$folder/out" >&2
        exit 1
    fi
    echo "ok: $(grep -F -- "$words" "$folder/out" | head -1)"
}
must_work() {
    if ! "$@" >"$folder/out" 2>&1; then
        echo "this must work: $*" >&2
        cat "$folder/out" >&2
        exit 1
    fi
    echo "ok: $*"
}
resize() { mount -o "remount,$1" "$disk"; }

echo "== a preparation"
must_fail "No space left on device" "$program" prepare-data --dataset shapes --output "$disk/data"
[ ! -e "$disk/data/preparation.json" ]
resize size=200m
must_work "$program" prepare-data --dataset shapes --output "$disk/data"
mv "$disk/data" data

echo "== a run"
cat >run.toml <<END
output_dir = "$disk/runs"
name = "run"
[data]
directory = "data"
cache_directory = "$disk/cache"
[tokenizer]
vocab_size = 400
[model.encoder]
pretrained = false
train = "full"
config = { kind = "vit", image_size = 32, patch_size = 16, hidden_size = 128, num_hidden_layers = 2, num_attention_heads = 4, intermediate_size = 256 }
[model.decoder]
hidden_size = 128
num_layers = 2
num_heads = 4
intermediate_size = 256
max_seq_len = 32
[training]
batch_size = 256
num_epochs = 1
save_interval = 10
[checkpoint]
keep_last = 3
END
# A checkpoint takes about 9 MB: two fit, a third does not.
resize size=24m
must_fail "cannot write the checkpoint" "$program" --config run.toml
grep -F "No space left on device" "$folder/out"
grep -F "the last good checkpoint is" "$folder/out"
grep -F "warning: the run's checkpoints may take" "$folder/out"
last="$disk/runs/run/checkpoints/last.safetensors"
[ -z "$(find "$disk/runs" -name '*.partial')" ]
must_work "$program" inspect "$last"
before=$(sha256sum "$last")

echo "== a read-only disk"
resize ro
must_fail "Read-only file system" "$program" --resume "$last"
[ "$before" = "$(sha256sum "$last")" ]

echo "== room again"
resize rw,size=200m
must_work "$program" --resume "$last"
undisturbed="$folder/undisturbed"
must_work "$program" --config run.toml --set "output_dir=$undisturbed"
tail_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1" | sha256sum; }
[ "$(tail_of "$last")" = "$(tail_of "$undisturbed/run/checkpoints/last.safetensors")" ]
echo "ok: the tensors of the run that was cut off are those of an undisturbed one"

echo "== a cache"
rm -rf "$disk/runs"
resize size=1m
must_fail "the cache needs" "$program" --config run.toml --set model.encoder.train=frozen --set "output_dir=$folder/runs"
echo "all checks passed"
