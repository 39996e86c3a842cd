#!/bin/bash
# Checks as much of the GPU code as a machine without a GPU can:
#
#   scripts/check-cuda.sh
#
# It builds and links without warnings; the program starts and says what is missing; NVRTC compiles every kernel. With a
# stand-in for the CUDA libraries that runs kernels on the CPU (tests/cuda_emulator), every kernel equals plain loops,
# operations, gradients, training and captions equal those of the CPU, and a run can be trained and resumed on another
# device. The stand-in says nothing about speed or about what only a real GPU does; that is what scripts/gpu-check.sh is
# for.
#
# Needs what scripts/build-cuda.sh needs. The first run takes half an hour on two cores, mostly for the build.
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
echo "all checks passed"
