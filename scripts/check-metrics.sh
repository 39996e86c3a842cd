#!/usr/bin/env bash
# Compares the PTB tokenizer, METEOR and the scores with the Java tools and with published results, on real captions.
# Takes about three minutes on two cores.
#
#   PYTHON=VENV/bin/python scripts/check-metrics.sh DATA_FOLDER [WORK_FOLDER]
#
# DATA_FOLDER has flickr30k_text/flickr30k.zip, flickr8k/Flickr8k_text.zip and metrics/ with
# candidates_and_references.json and published_scores.json. PYTHON has pycocoevalcap==1.2; Java must be installed.
set -euo pipefail

python=$(realpath -s "${PYTHON:?set PYTHON to an interpreter with pycocoevalcap}")
data=$(realpath "$1")
work=$(realpath -m "${2:-$(mktemp -d)}")
root=$(realpath "$(dirname "$0")/..")
mkdir -p "$work"
cd "$work"
program=$root/target/release/caption-train
resources=$("$python" -c "from importlib.util import find_spec as f; print(*f('pycocoevalcap').submodule_search_locations)")/meteor

cargo build --release --locked --manifest-path "$root/Cargo.toml"

"$python" - "$data" <<'PYTHON'
import json, sys, zipfile
for name, archive, member in [
    ("flickr30k", "flickr30k_text/flickr30k.zip", "results_20130124.token"),
    ("flickr8k", "flickr8k/Flickr8k_text.zip", "Flickr8k.token.txt"),
]:
    text = zipfile.ZipFile(f"{sys.argv[1]}/{archive}").read(member).decode()
    lines = [line.rstrip("\r").split("\t", 1) for line in text.split("\n") if "\t" in line]
    open(f"{name}.txt", "w", newline="\n").write("\n".join(caption for _, caption in lines))
    images = {}
    for key, caption in lines:
        images.setdefault(key.split("#")[0], []).append(caption)
    items = [{"candidate": c[0], "references": c[1:]} for c in images.values() if len(c) > 1]
    json.dump(items[:4000], open(f"{name}.json", "w"))
    print(name, len(lines), "captions")
PYTHON

check() {
    cargo test --release --manifest-path "$root/Cargo.toml" --test real_data -- --nocapture --exact "$1" 2>&1 | tee check.log
    grep -q "1 passed" check.log
}
export METEOR_RESOURCES=$resources
for name in flickr30k flickr8k; do
    "$python" "$root/tests/reference/ptb_tokenizer.py" $name.txt $name.tokens
    CAPTIONS=$work/$name.txt TOKENS=$work/$name.tokens check tokens_of_real_captions_equal_those_of_the_java_tool
    "$python" "$root/tests/reference/meteor.py" $name.json $name.meteor.json --ptb --tokens $name.tokens.json
    METEOR_INPUT=$work/$name.tokens.json METEOR_EXPECTED=$work/$name.meteor.json check meteor_of_real_captions_equals_that_of_the_java_tool
done

"$program" score --candidates "$data/metrics/candidates_and_references.json" --meteor-resources "$resources" \
    --bootstrap 0 --json >scores.json
"$python" - "$data/metrics/published_scores.json" <<'PYTHON'
import json, sys
published, report = json.load(open(sys.argv[1])), json.load(open("scores.json"))
counts = report["bleu"]
found = {
    "testlen": counts["candidate_length"],
    "reflen": counts["reference_length"],
    "guess": counts["guess"],
    "correct": counts["correct"],
}
assert found == published["counts"], found
for name, value in published["scores_3dp"].items():
    if name != "SPICE":
        assert round(report["scores"][name], 3) == value, (name, report["scores"][name], value)
print("counts and scores are the published ones:", report["scores"])
PYTHON
echo "all checks passed"
