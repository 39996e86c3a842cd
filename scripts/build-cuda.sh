#!/bin/bash
# Builds with the feature `cuda` on a machine that has neither a GPU nor a CUDA installation:
#
#   scripts/build-cuda.sh [CARGO_COMMAND...]        default: build --release
#
# The toolkit comes from PyPI (about 1.5 GB, once) into a cache folder: CUDA_CACHE, else ~/.cache/caption-train/cuda.
# Nothing is linked against the CUDA libraries: the binary opens them when a GPU is asked for, so it also starts without
# them. CUDA_COMPUTE_CAP is the oldest GPU it will run on, 80 by default (A100). Outputs go to target/cuda, unless
# CARGO_TARGET_DIR says otherwise, since the flags below would rebuild everything in target.
#
# Needs python3 with venv, gcc and g++. With CUDA 12 or 13 installed, `cargo build --release --features cuda` is enough.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${CUDA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caption-train/cuda}
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.2.11 nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88)

mkdir -p "$cache"
key=$(printf '%s\n' "${wheels[@]}" | sha256sum | cut -c1-16)
if [ ! -e "$cache/toolkit-$key/complete" ]; then
    echo "fetching the CUDA toolkit into $cache/toolkit-$key" >&2
    rm -rf "$cache/toolkit-$key"
    python3 -m venv "$cache/toolkit-$key"
    "$cache/toolkit-$key/bin/pip" install --quiet --disable-pip-version-check "${wheels[@]}"
    touch "$cache/toolkit-$key/complete"
fi
toolkit=$(echo "$cache/toolkit-$key"/lib/python3*/site-packages/nvidia/cu13)
[ -x "$toolkit/bin/nvcc" ] || { echo "no nvcc in $toolkit; remove $cache and try again" >&2; exit 1; }
[ -e "$toolkit/lib64" ] || ln -s lib "$toolkit/lib64"

# Empty libraries for the linker, which drops them since nothing comes from them, and the static runtime, which opens
# the driver by itself.
stubs=$cache/stubs-$key
mkdir -p "$stubs"
for name in cuda cublas cublasLt curand nvrtc; do
    [ -e "$stubs/lib$name.so" ] || echo | gcc -x c - -shared -fPIC -o "$stubs/lib$name.so"
done
ln -sf "$toolkit/lib/libcudart_static.a" "$stubs/libcudart.a"

export CUDA_HOME=$toolkit CUDA_PATH=$toolkit NVCC=$toolkit/bin/nvcc PATH="$toolkit/bin:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
export LIBRARY_PATH="$stubs${LIBRARY_PATH:+:$LIBRARY_PATH}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cuda}
# CUDA functions are resolved at their first call, which is after the libraries have been opened.
export RUSTFLAGS="-C relro-level=partial -C link-arg=-Wl,-z,lazy -C link-arg=-Wl,--unresolved-symbols=ignore-all"

command=("$@")
[ $# -gt 0 ] || command=(build --release)
exec cargo "${command[0]}" --features cuda "${command[@]:1}"
