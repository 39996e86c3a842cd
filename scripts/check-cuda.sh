#!/bin/bash
# What of the part for NVIDIA GPUs can be checked on a machine without one:
#
#   scripts/check-cuda.sh
#
# that it builds and links, without warnings; that the program starts and says what is missing; that NVRTC compiles every
# kernel; and, with a stand-in for the libraries of CUDA that runs kernels on the CPU (tests/cuda_emulator), that every
# kernel equals plain loops, that operations, gradients, training and captions equal those of the CPU, and that a run can
# be trained, stopped, and gone on with on another device. The stand-in shows nothing of speed, and nothing of what only a
# real GPU does; scripts/gpu-check.sh is for those.
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
toolkit=$(echo "$cache"/toolkit-*/lib/python3*/site-packages/nvidia/cu13 | tr ' ' '\n' | tail -1)
LD_LIBRARY_PATH=$toolkit/lib "$tests" every_kernel_compiles

say "the kernels equal plain loops"
g++ -std=c++17 -O2 -Wno-unknown-pragmas -Itests/cuda_emulator -o "$work/kernels_test" tests/cuda_emulator/kernels_test.cpp
"$work/kernels_test"
EMULATOR_ORDER=reverse "$work/kernels_test" | tail -1

say "operations, training and captions equal those of the CPU, in either order of blocks and threads"
tests/cuda_emulator/build.sh "$work/emulator"
LD_LIBRARY_PATH=$work/emulator "$tests"
EMULATOR_ORDER=reverse EMULATOR_GUARD=1 LD_LIBRARY_PATH=$work/emulator "$tests" --quiet

say "a run on the stand-in, and on the CPU from where it was stopped"
cat > "$work/run.toml" << CONFIG
output_dir = "$work/runs"
name = "run"
[data]
dataset = "shapes"
directory = "$work/shapes"
[tokenizer]
vocab_size = 280
[model.encoder]
pretrained = false
train = "full"
config = { kind = "vit", image_size = 32, patch_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 32 }
[model.decoder]
hidden_size = 16
num_layers = 1
num_heads = 2
intermediate_size = 32
max_seq_len = 16
[training]
num_epochs = 1
batch_size = 64
log_interval = 1
[evaluation]
num_samples = 4
CONFIG
WANDB_MODE=disabled LD_LIBRARY_PATH=$work/emulator timeout -s INT 90 \
    "$program" --config "$work/run.toml" --device cuda > "$work/run.log" 2>&1 || [ $? = 130 ] || [ $? = 124 ]
grep -F "on cuda:0" "$work/run.log"
WANDB_MODE=disabled "$program" --resume "$work/runs/run/checkpoints/last.safetensors" --device cpu > "$work/resumed.log" 2>&1
tail -2 "$work/resumed.log"
echo "all checks passed"
