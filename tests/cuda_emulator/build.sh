#!/bin/bash
# Builds the CUDA emulator for this machine into a folder, under the names of the libraries that it stands for:
#
#   tests/cuda_emulator/build.sh FOLDER [real-nvrtc]
#   LD_LIBRARY_PATH=FOLDER target/cuda/release/caption-train ...
#
# With `real-nvrtc` NVRTC is left out, for NVIDIA's own (which runs without a GPU) to compile the kernels' sources: its
# libnvrtc.so.13 must then be found too, and the parameters of its PTX are compared with those of the emulated kernels.
#
# Only what changed is compiled again. One compiler runs at a time. Needs g++ 9 or newer.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
kernels=$(cd "$here/../../crates/ops/src/cuda/kernels" && pwd)
nvrtc=${2:-emulated}
objects=$out/objects
mkdir -p "$objects"

# Products of fused operations as on a GPU, where the processor has them.
flags=(-std=c++17 -O2 -g1 -march=native -fPIC -fvisibility=hidden -Wall -Wextra -Wno-unknown-pragmas "-I$here")
[ "$nvrtc" != real-nvrtc ] || flags+=(-DREAL_NVRTC)
if [ "$(cat "$objects/flags" 2>/dev/null)" != "${flags[*]}" ]; then
    rm -f "$objects"/*
    echo "${flags[*]}" > "$objects/flags"
fi

# compile OBJECT "DEPENDENCIES" ARGUMENT...
compile() {
    local object=$1 dependency
    objects_to_link+=("$objects/$object.o")
    for dependency in $2; do
        if [ ! "$objects/$object.o" -nt "$dependency" ]; then
            rm -f "$objects/$object.o"
            touch "$objects/started"
            g++ "${flags[@]}" "${@:3}" -c -o "$objects/$object.o"
            # A file that was changed while it was compiled is newer.
            touch -r "$objects/started" "$objects/$object.o"
            return
        fi
    done
}

objects_to_link=()
header=$here/emulator.h
# Read once instead of in each file.
if [ ! "$objects/emulator.h.gch" -nt "$header" ]; then
    g++ "${flags[@]}" -w -x c++-header "$header" -o "$objects/emulator.h.gch"
fi
precompiled=(-include "$objects/emulator.h")
for file in driver memory nvrtc cublas curand nccl; do
    compile "$file" "$here/$file.cpp $here/driver.h $here/memory.h $here/nvrtc.h $here/gemm.h" "$here/$file.cpp"
done
compile module "$here/module.cpp $header $here/driver.h $here/memory.h $here/nvrtc.h" \
    "${precompiled[@]}" "$here/module.cpp"
compile gemm "$here/gemm.cpp $here/gemm.h" -O3 "$here/gemm.cpp"
compile candle "$here/candle.cpp $header" "${precompiled[@]}" "$here/candle.cpp"
for file in "$kernels"/*.cu; do
    space=$(basename "$file" .cu)
    settings=("${precompiled[@]}" "-I$kernels" "-Wa,-I,$kernels" "-DKERNEL_SPACE=$space" "-DKERNEL_FILE=\"$space.cu\""
        "-DKERNEL_LIST=\"$objects/$space.list\"" -Wno-unused-function)
    # The kernels' names, macros expanded.
    cat "$kernels/common.cuh" "$file" | g++ -E -P -x c++ - |
        grep -oE 'extern "C" __global__ void (__launch_bounds__\([^)]*\) )?[A-Za-z0-9_]+' |
        sed -E "s/.* ([A-Za-z0-9_]+)$/EMULATOR_REGISTER($space, \1)/" > "$objects/$space.list.new"
    cmp -s "$objects/$space.list.new" "$objects/$space.list" || mv "$objects/$space.list.new" "$objects/$space.list"
    rm -f "$objects/$space.list.new"
    compile "kernels_$space" "$here/kernels.cpp $header $here/nvrtc.h $kernels/common.cuh $file $objects/$space.list" \
        "${settings[@]}" "$here/kernels.cpp"
done

# Removed first: a program that runs keeps the library that it has opened.
rm -f "$out/libcuda_emulator.so"
# What templates of the C++ library leave behind is not for others to find.
echo '{ global: cu*; nvrtc*; nccl*; local: *; };' > "$objects/exports"
g++ -shared -o "$out/libcuda_emulator.so" "${objects_to_link[@]}" -Wl,-z,defs "-Wl,--version-script=$objects/exports" \
    -lpthread
names=(libcuda.so.1 libcublas.so.13 libcublas.so.12 libcublasLt.so.13 libcublasLt.so.12 libcurand.so.10
    libnccl.so.2)
nvrtc_names=(libnvrtc.so.13 libnvrtc.so.12)
if [ "$nvrtc" = real-nvrtc ]; then
    for name in "${nvrtc_names[@]}"; do [ ! -L "$out/$name" ] || rm "$out/$name"; done
else
    names+=("${nvrtc_names[@]}")
fi
for name in "${names[@]}"; do ln -sf libcuda_emulator.so "$out/$name"; done
