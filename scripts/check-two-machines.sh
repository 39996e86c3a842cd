#!/usr/bin/env bash
# Trains on two machines that are none: network namespaces with an address, a host name and a disk of their own. One run
# on both must end in the tensors of a run of one process; with the link cut in the middle both must end by themselves
# with a message that names the other; and the run must resume.
#
#   scripts/check-two-machines.sh MPI     the folder of an MPICH (`pip install mpich` in a virtual environment);
#                                         needs root, and about a minute
set -euo pipefail
mpi=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
cargo build --release
folder=$(mktemp -d)
disk="$folder/disk"
mkdir "$disk"
machines=()
finish() {
    for machine in "${machines[@]}"; do kill -9 "$machine" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap finish EXIT

# on NUMBER COMMAND...: on that machine.
on() {
    local machine=$1
    shift
    nsenter -t "${machines[machine - 1]}" -n -u -m "$@"
}

echo "== two machines"
for number in 1 2; do
    unshare --net --uts --mount --propagation private sleep 100000 &
    machines+=($!)
done
sleep 0.5
ip link add ct1 type veth peer name ct2
for number in 1 2; do
    ip link set "ct$number" netns "${machines[number - 1]}"
    on $number ip address add "10.77.0.$number/24" dev "ct$number"
    on $number ip link set "ct$number" up
    on $number ip link set lo up
    on $number hostname "machine$number"
    on $number mount -t tmpfs tmpfs "$disk"
    on $number cp target/release/caption-train "$disk"
done
on 1 "$disk/caption-train" prepare-data --quiet --dataset shapes --output "$folder/all"
on 1 "$disk/caption-train" prepare-data --quiet --source "$folder/all" --output "$folder/shapes" --limit 1500
cat >"$folder/run.toml" <<CONFIG
output_dir = "$disk/runs"
name = "run"
[data]
directory = "$disk/shapes"
[tokenizer]
vocab_size = 280
[model.encoder]
pretrained = false
train = "frozen"
config = { kind = "vit", image_size = 32, patch_size = 16, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 64 }
[model.decoder]
hidden_size = 32
num_layers = 2
num_heads = 2
intermediate_size = 64
max_seq_len = 24
[training]
batch_size = 32
num_epochs = 2
parts = 4
save_interval = 10
log_interval = 1
[evaluation]
caption_split = "test"
CONFIG
for number in 1 2; do
    on $number cp -r "$folder/shapes" "$folder/run.toml" "$disk"
done

# What mpiexec calls in place of ssh. Messages of a machine stay on its disk: the link may be cut.
cat >"$folder/shell" <<SHELL
#!/bin/bash
while [[ "\$1" == -* ]]; do shift; done
number=\${1##*.}
shift
pids=(${machines[*]})
exec nsenter -t "\${pids[number - 1]}" -n -u -m bash -c "\$*"
SHELL
cat >"$folder/caption-train" <<SHELL
#!/bin/bash
exec "$disk/caption-train" "\$@" 2>>"$disk/messages"
SHELL
chmod +x "$folder/shell" "$folder/caption-train"
together() {
    on 1 env CAPTION_TRAIN_MPI="$mpi/lib/libmpi.so.12" CAPTION_TRAIN_PEER_TIMEOUT=5 "$mpi/bin/mpiexec" \
        -launcher ssh -launcher-exec "$folder/shell" -hosts 10.77.0.1,10.77.0.2 -ppn 1 -n 2 \
        "$folder/caption-train" "$@"
}
tensors() { on 1 "$disk/caption-train" inspect "$1" --json | sed 's/.*"tensors_digest":"\([0-9a-f]*\)".*/\1/'; }

echo "== one process"
on 1 "$disk/caption-train" --config "$disk/run.toml" --set name=alone >/dev/null 2>&1
expected=$(tensors "$disk/runs/alone/checkpoints/last.safetensors")

echo "== one run on both"
on 1 rm -rf "$disk/shapes/cache"
together --config "$disk/run.toml"
found=$(tensors "$disk/runs/run/checkpoints/last.safetensors")
[ "$found" = "$expected" ] || { echo "other tensors than those of one process" >&2; exit 1; }
on 2 test -d "$disk/shapes/cache" || { echo "the second machine has no cache of its own" >&2; exit 1; }
on 2 test ! -e "$disk/runs" || { echo "the second machine has a run" >&2; exit 1; }
echo "ok: the same tensors, a cache on each machine, the run on the first"

echo "== the link is cut"
for number in 1 2; do on $number rm -rf "$disk/messages"; done
on 1 rm -rf "$disk/runs/run"
together --config "$disk/run.toml" &
run=$!
until on 1 test -e "$disk/runs/run/checkpoints/last.safetensors"; do sleep 0.05; done
on 1 ip link set ct1 down
cut=$SECONDS
for number in 1 2; do
    while on $number pgrep -f "$disk/caption-train --config" >/dev/null; do
        [ $((SECONDS - cut)) -lt 60 ] || { echo "machine $number did not end" >&2; exit 1; }
        sleep 0.2
    done
    echo "machine $number ended after $((SECONDS - cut)) s: $(on $number grep -a "error:" "$disk/messages" | head -1)"
done
kill -9 $run 2>/dev/null || true
wait $run 2>/dev/null || true
on 1 grep -qa "process 1 on" "$disk/messages" || { on 1 cat "$disk/messages"; exit 1; }
on 2 grep -qa "process 0 on" "$disk/messages" || { on 2 cat "$disk/messages"; exit 1; }

echo "== the run is resumed"
on 1 ip link set ct1 up
on 1 ip address show ct1 | grep -q 10.77.0.1 || on 1 ip address add 10.77.0.1/24 dev ct1
sleep 1
together --resume "$disk/runs/run"
found=$(tensors "$disk/runs/run/checkpoints/last.safetensors")
[ "$found" = "$expected" ] || { echo "other tensors than those of an undisturbed run" >&2; exit 1; }
echo "ok: the tensors of an undisturbed run"
