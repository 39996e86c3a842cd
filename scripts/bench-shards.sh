#!/usr/bin/env bash
# A data set of ten million pairs in place: time and memory of building its index, of a run's first and second start up to
# the first update, and images per second of the loader.
#
#   scripts/bench-shards.sh WORK_FOLDER [SHARDS]
#
# 1,000 names (SHARDS) are hard links to one tar file of 10,000 pictures of 32 pixels with a caption each, as webdataset
# writes it: what is read, indexed, shuffled and loaded are ten million images, and what lies on the disk is one shard.
# Needs a release build, Python with Pillow (PYTHON), and GNU time.
set -euo pipefail
root=$(realpath "$(dirname "$0")/..")
program=${CAPTION_TRAIN:-$root/target/release/caption-train}
work=$(realpath -m "$1")
shards=${2:-1000}
mkdir -p "$work/shards"
cd "$work"

[ -e shard.tar ] || "${PYTHON:-python3}" - <<'PY'
import io, json, random, tarfile
from PIL import Image

rng = random.Random(0)
words = [f"word{number}" for number in range(3000)]
with tarfile.open("shard.tar", "w") as tar:
    def add(name, content):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))

    for number in range(10_000):
        pixels = bytes(rng.randrange(256) for _ in range(8 * 8 * 3))
        picture = io.BytesIO()
        Image.frombytes("RGB", (8, 8), pixels).resize((32, 32)).save(picture, "JPEG")
        add(f"{number:09}.jpg", picture.getvalue())
        add(f"{number:09}.txt", " ".join(rng.choices(words, k=rng.randint(6, 15))).encode())
PY
for number in $(seq -f %05g 0 $((shards - 1))); do
    ln -f shard.tar "shards/$number.tar"
done
cat >run.toml <<TOML
name = "large"
output_dir = "$work/runs"
[data]
directory = "$work/index"
shards = ["$work/shards"]
split = "random"
validation_fraction = 0.0001
cache_features = false
[model.encoder]
pretrained = false
train = "full"
config = { kind = "vit", image_size = 32, patch_size = 16, hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 64 }
[model.decoder]
hidden_size = 32
num_layers = 1
num_heads = 2
max_seq_len = 24
[training]
batch_size = 64
num_epochs = 1
log_interval = 1
[evaluation]
num_samples = 0
TOML

measured() {
    local what=$1
    shift
    /usr/bin/time -f "$what: %e s, %M KiB at the peak" "$@"
}
measured "index" "$program" prepare-data --shards "$work/shards" --output "$work/index"
du -sh index | sed 's/^/on the disk: /'
for start in first second; do
    rm -rf runs
    started=$(date +%s.%N)
    /usr/bin/time -f "run stopped after its first updates: %M KiB at the peak" \
        "$program" --config run.toml >"$start.log" 2>&1 &
    until grep -qs '"kind":"step"' runs/large/metrics.jsonl; do
        kill -0 $! || { cat "$start.log"; exit 1; }
        sleep 0.1
    done
    echo "$start start: $(echo "$(date +%s.%N) - $started" | bc) s to the first update"
    pid=$(pgrep -f -- "--config run.toml" | tail -n 1)
    grep -E "VmHWM|RssAnon|RssFile" "/proc/$pid/status"
    kill -TERM "$pid"
    wait || true
    tail -n 1 "$start.log"
done
echo "the loader: cargo bench --bench shards -- $work/index"
