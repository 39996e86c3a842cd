#!/usr/bin/env bash
# Fuzzes every reader of files that a stranger may have made: fuzz/fuzz_targets, what they assert is in fuzz/src.
#
#   scripts/fuzz.sh [RUNS] [TARGET...]
#
# RUNS executions of each target (1,000,000), one target after the other; a line for each tells how many there were, in
# how many seconds, and what came of it. Inputs that reach new code go to fuzz/target/corpus, from where the next call
# goes on; an input that crashed goes to fuzz/artifacts, the log to fuzz/target/logs.
#
# Needed: cargo install cargo-fuzz --locked, and a C++ compiler for libFuzzer. Where rustup has no nightly toolchain, the
# stable one is told to allow what the sanitizers need.
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

# Bytes of the longest input: what a file needs to reach all of its reader, no more.
longest() {
    case $1 in
        archive | decoder_guard | image | weight_files) echo 4096 ;;
        checkpoint | tokenizer) echo 8192 ;;
        feature_store) echo 512 ;;
        *) echo 2048 ;;
    esac
}

# The address sanitizer looks over the unsafe code of decoders, inflation and mapped files. The other readers are safe code
# throughout, and those that build a tokenizer or a whole model make 30 to 200 executions in a second with it, about 1,000
# without.
sanitizer() {
    case $1 in
        archive | decoder_guard | feature_store | image) echo address ;;
        *) echo none ;;
    esac
}

# A file system in memory: most targets write a file in each execution.
memory=/dev/shm
[ -d "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d -p "$memory" caption-train-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
# One target is one thread, whatever the library would like.
export RAYON_NUM_THREADS=1
# An error with a backtrace takes longer than what it is about.
export RUST_LIB_BACKTRACE=0

mkdir -p fuzz/target/logs
failed=0
for target in "${targets[@]}"; do
    own=fuzz/target/corpus/$target
    log=fuzz/target/logs/$target.log
    mkdir -p "$own"
    # Safe code frees what it has; looking for leaks took half of the time. What grows meets the limit on memory.
    arguments=("-runs=$runs" "-max_len=$(longest "$target")" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512
        -detect_leaks=0)
    [ ! -f "fuzz/dictionaries/$target.dict" ] || arguments+=("-dict=fuzz/dictionaries/$target.dict")
    corpora=("$own" "fuzz/corpus/$target")
    [ ! -d "fuzz/regressions/$target" ] || corpora+=("fuzz/regressions/$target")
    # Artefacts with and without a sanitizer would take turns in one folder.
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
