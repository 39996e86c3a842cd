#!/usr/bin/env bash
# Fuzzes every reader of untrusted files. The targets are in fuzz/fuzz_targets, what they assert is in fuzz/src.
#
#   scripts/fuzz.sh [RUNS] [TARGET...]
#
# RUNS executions (1,000,000 by default) of each target, one target after the other, with a line for each: executions,
# seconds and result. Inputs that reach new code go to fuzz/target/corpus, where the next call starts from; inputs that
# crash go to fuzz/artifacts, logs to fuzz/target/logs.
#
# Needs `cargo install cargo-fuzz --locked` and a C++ compiler for libFuzzer. Without a nightly toolchain, the stable
# one runs with RUSTC_BOOTSTRAP for the sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo +nightly --version >/dev/null 2>&1; then
    fuzz() { cargo +nightly fuzz "$@"; }
else
    fuzz() { RUSTC_BOOTSTRAP=1 cargo fuzz "$@"; }
fi

runs=${1:-1000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(fuzz list)

# Maximum length of an input in bytes: enough to reach all of the reader, no more.
longest() {
    case $1 in
        archive | decoder_guard | image | parquet | pickle | shards | weight_files) echo 4096 ;;
        checkpoint | tokenizer) echo 8192 ;;
        feature_store) echo 512 ;;
        *) echo 2048 ;;
    esac
}

# The address sanitizer checks the unsafe code of decoders, decompression and mapped files. The other readers are safe
# code, and those that build a tokenizer or a whole model make 30 to 200 executions per second with it, about 1,000
# without.
sanitizer() {
    case $1 in
        archive | decoder_guard | feature_store | image | parquet | shards) echo address ;;
        *) echo none ;;
    esac
}

# A file system in memory, since most targets write a file in each execution.
memory=/dev/shm
[ -d "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d -p "$memory" caption-train-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
# One target uses one thread.
export RAYON_NUM_THREADS=1
# A backtrace would take longer than the error it is for.
export RUST_LIB_BACKTRACE=0

mkdir -p fuzz/target/logs
failed=0
for target in "${targets[@]}"; do
    own=fuzz/target/corpus/$target
    log=fuzz/target/logs/$target.log
    mkdir -p "$own"
    # Safe code does not leak, and looking for leaks took half of the time. Growth meets the memory limit.
    arguments=("-runs=$runs" "-max_len=$(longest "$target")" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512
        -detect_leaks=0)
    [ ! -f "fuzz/dictionaries/$target.dict" ] || arguments+=("-dict=fuzz/dictionaries/$target.dict")
    corpora=("$own" "fuzz/corpus/$target")
    [ ! -d "fuzz/regressions/$target" ] || corpora+=("fuzz/regressions/$target")
    # In one folder, builds with and without a sanitizer would overwrite each other.
    build=(--sanitizer "$(sanitizer "$target")" --target-dir "fuzz/target/$(sanitizer "$target")" "$target")
    fuzz build "${build[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    started=$SECONDS
    result=passed
    fuzz run "${build[@]}" "${corpora[@]}" -- "${arguments[@]}" >>"$log" 2>&1 ||
        { result="FAILED, see $log" failed=1; }
    executions=$(sed -n 's/^#\([0-9]*\)\s.*/\1/p' "$log" | tail -n 1)
    printf '%-14s %9s executions %6s s  %s\n' "$target" "${executions:-0}" $((SECONDS - started)) "$result"
done
exit $failed
