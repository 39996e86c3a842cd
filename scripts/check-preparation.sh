#!/usr/bin/env bash
# Measures preparations: the memory for a million captions, and for a million samples of a WebDataset (extrapolated),
# which must stay below 1 GiB; and the time for the archives of Flickr8k, compared with unzip, which neither decodes
# images nor waits for the disk. Needs GNU time, unzip and python3.
#
#   scripts/check-preparation.sh FLICKR8K_ARCHIVES [WORK_FOLDER]
set -euo pipefail

archives=$(realpath "$1")
work=$(realpath -m "${2:-$(mktemp -d)}")
program=$(realpath "$(dirname "$0")/../target/release/caption-train")
mkdir -p "$work"
cd "$work"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}
measured() { /usr/bin/time -o measured -f "%e %M" "$@" >/dev/null 2>&1; }

"$program" --quiet prepare-data --dataset shapes --output shapes
mkdir -p source
ln -f shapes/images/* source/
# Captions per picture.
for each in 5 46; do
    {
        echo image,caption
        find source -name '*.jpg' -printf '%f\n' | sort |
            awk -v each="$each" '{ for (i = 0; i < each; i++) print $1 ",picture number " NR " in its words number " i " of many others" }'
    } >source/captions.csv
    rm -rf prepared
    measured "$program" prepare-data --source source --output prepared || fail "the preparation failed"
    read -r seconds kilobytes <measured
    echo "$(($(wc -l <source/captions.csv) - 1)) captions of 22200 images: $seconds s, $((kilobytes / 1024)) MiB at the peak"
done
[ "$kilobytes" -lt 1048576 ] || fail "a million captions take 1 GiB or more"

# This many samples, each the same small picture and a caption.
shards() {
    python3 - "$1" "$2" "$(find source -name '*.jpg' | head -1)" <<'END'
import io, pathlib, sys, tarfile
number, folder, picture = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_bytes()
folder.mkdir()
for first in range(0, number, 10_000):
    with tarfile.open(folder / f"shard-{first:07}.tar", "w") as shard:
        for sample in range(first, min(number, first + 10_000)):
            for ending, content in (("jpg", picture), ("txt", b"picture number %d of many others" % sample)):
                member = tarfile.TarInfo(f"{sample:08}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
END
}
before=0
for number in 20000 60000; do
    rm -rf shards prepared
    shards "$number" shards
    measured "$program" prepare-data --source shards --output prepared || fail "the preparation failed"
    read -r seconds kilobytes <measured
    echo "$number samples of a web data set: $seconds s, $((kilobytes / 1024)) MiB at the peak"
    growth=$(((kilobytes - before) / 40))
    before=$kilobytes
done
rm -rf shards prepared
# In KiB per 1,000 samples; 940,000 of a million are extrapolated.
million=$((kilobytes + growth * 940))
echo "a million samples at this growth: $((million / 1024)) MiB"
[ "$million" -lt 1048576 ] || fail "a million samples take 1 GiB or more"

for round in 1 2 3; do
    rm -rf flickr8k unzipped
    measured "$program" prepare-data --dataset flickr8k --source "$archives" --output flickr8k
    read -r ours memory <measured
    measured unzip -q "$archives/Flickr8k_Dataset.zip" -d unzipped
    read -r theirs _ <measured
    images=$(find flickr8k/images -type f | wc -l)
    awk -v ours="$ours" -v theirs="$theirs" -v images="$images" -v memory="$memory" 'BEGIN {
        printf "%d images: %.0f images/s, %d MiB; unzip %.0f images/s\n", images, images / ours, memory / 1024, images / theirs
    }'
done
echo "all checks passed"
