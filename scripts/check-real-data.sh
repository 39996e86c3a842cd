#!/usr/bin/env bash
# Prepares the real Flickr8k, compares tokenizer, encoder and an exported model with Python, trains with a real ViT and
# compares the losses with those of PyTorch for the same recipe. Takes about 20 minutes on two cores.
#
#   PYTHON=VENV/bin/python scripts/check-real-data.sh FLICKR8K_ARCHIVES ENCODER_FOLDER [WORK_FOLDER] [DINOV2_FOLDER]
#
# PYTHON has the packages that tests/reference/real_data.py and scripts/check-metrics.sh name in their first lines. The
# folder above FLICKR8K_ARCHIVES has the data that the latter needs.
set -euo pipefail

python=$(realpath -s "${PYTHON:?set PYTHON to an interpreter with torch and transformers}")

archives=$(realpath "$1")
encoder=$(realpath "$2")
work=$(realpath -m "${3:-$(mktemp -d)}")
dinov2=${4:+$(realpath "$4")}
root=$(realpath "$(dirname "$0")/..")
program=$root/target/release/caption-train
mkdir -p "$work"
cd "$work"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# The number after a key in a line of JSON.
value() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }
at_most() { awk -v found="$1" -v most="$2" 'BEGIN { exit !(found != "" && found <= most) }'; }

"$program" prepare-data --dataset flickr8k --source "$archives"
"$program" prepare-data --dataset flickr8k --source "$archives" 2>&1 | tee second.log
grep -q "nothing to do" second.log || fail "a second preparation did something"
[ "$(find data/flickr8k/images -type f | wc -l)" = 7000 ] || fail "expected 7000 images"
grep -q 2258277193_586949ec62.jpg.1 data/flickr8k/preparation.json || fail "the ghost id is not reported"

# All captions of Flickr30k, without the images.
"$program" prepare-data --source "$(dirname "$archives")/flickr30k_text" --output data/flickr30k >text.log 2>&1 &&
    fail "captions without images became a data set"
grep -q "the annotations have 31014 images with 155070 captions, and none of the image files was found" text.log ||
    fail "captions without images are not reported as such: $(cat text.log)"
[ ! -e data/flickr30k ] || fail "something was written for captions without images"

"$root/scripts/check-metrics.sh" "$(dirname "$archives")" "$work/metrics"

"$python" "$root/tests/reference/real_data.py" "$encoder" data/flickr8k reference ${dinov2:+"$dinov2"}
check() { cargo test --release --manifest-path "$root/Cargo.toml" --test real_data -- --nocapture "$@"; }
export REFERENCE=$work/reference ENCODER=$encoder
check hidden_states_of_a_real_encoder
[ -z "$dinov2" ] || DINOV2=$dinov2 check hidden_states_of_a_real_dinov2
check ids

"$program" --config "$root/configs/flickr8k_vit_tiny.toml" \
    --set "model.encoder.name=$encoder" --set output_dir=runs --set name=check &
trainer=$!
metrics() { cat runs/check*/metrics.jsonl 2>/dev/null || true; }
until metrics | grep -q '"epoch":3,.*"kind":"validation"'; do
    kill -0 "$trainer" 2>/dev/null || fail "the run ended before its third validation"
    sleep 5
done
kill -TERM "$trainer"
code=0
wait "$trainer" || code=$?
[ "$code" = 130 ] || fail "expected the exit code 130 after SIGTERM, found $code"

first=$(metrics | grep '"epoch":1,.*"kind":"validation"' | value val_loss)
third=$(metrics | grep '"epoch":3,.*"kind":"validation"' | value val_loss)
echo "validation loss after epoch 1: $first (at most 3.59), after epoch 3: $third (at most 3.00)"
at_most "$first" 3.59 || fail "the loss after epoch 1 is too high"
at_most "$third" 3.00 || fail "the loss after epoch 3 is too high"

# A second run finds what the first has encoded.
"$program" --config "$root/configs/flickr8k_vit_tiny.toml" \
    --set "model.encoder.name=$encoder" --set output_dir=runs --set name=again 2>again.log &
trainer=$!
until grep -q "^cache .*\(has all images\|writing\)" again.log; do
    kill -0 "$trainer" 2>/dev/null || fail "the second run ended before it looked into the cache"
    sleep 1
done
kill -TERM "$trainer"
wait "$trainer" || true
grep -q "has all images" again.log || fail "the second run encoded images again"

mapfile -t photographs < <(find data/flickr8k/images -type f | sort | head -20)
for model in runs/check*/checkpoints/last.safetensors "$root"/tests/fixtures/models/{vit,clip}_gpt2; do
    export EXPORTED=$work/exported/$(basename "$model")
    "$python" "$root/tests/reference/check_export.py" "$program" "$model" "$EXPORTED" "${photographs[@]}"
    check logits
done
echo "all checks passed"
