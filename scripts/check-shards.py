#!/usr/bin/env python3
"""Trains on real images in a folder, in Parquet as `datasets` writes it and in tar files as `webdataset` writes them, and
compares the losses.

    pip install datasets==5.2.0 webdataset==1.0.2 pillow==12.0.0
    python scripts/check-shards.py FLICKR8K_ARCHIVES ENCODER_FOLDER [--work FOLDER]

The folder is prepared from FLICKR8K_ARCHIVES; the shards have its images and captions in its order, the images with the
same bytes. The Parquet and the tar files are trained on where they lie. Each data set is trained on with a frozen encoder
whose outputs are cached, and with one that is trained. Every loss and gradient norm that is logged must have the same
digits.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import datasets
import webdataset

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("CAPTION_TRAIN", ROOT / "target/release/caption-train"))
CONFIG = """
name = "{name}"
output_dir = "{work}/runs"

[data]
directory = "{directory}"
{shards}

[model.encoder]
name = "{encoder}"
train = "{train}"

[model.decoder]
hidden_size = 128
num_layers = 2
num_heads = 4
max_seq_len = 32

[training]
batch_size = 64
num_epochs = 1
log_interval = 1

[evaluation]
num_samples = 4
"""


def run(*arguments):
    start = time.perf_counter()
    subprocess.run([PROGRAM, *map(str, arguments)], check=True)
    return time.perf_counter() - start


def samples(folder, splits):
    for image in json.loads((folder / "dataset.json").read_text())["images"]:
        if image["split"] in splits:
            content = (folder / "images" / image["filename"]).read_bytes()
            yield image["filename"], content, [sentence["raw"] for sentence in image["sentences"]]


def write_parquet(folder, output, name, num_shards, splits):
    def rows():
        for filename, content, captions in samples(folder, splits):
            yield {"image": {"bytes": content, "path": filename}, "captions": captions}

    features = datasets.Features(
        {"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))}
    )
    whole = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(output / "arrow"), split=name)
    for shard in range(num_shards):
        part = whole.shard(num_shards, shard, contiguous=True)
        part.to_parquet(output / f"{name}-{shard:05}-of-{num_shards:05}.parquet")


def write_tars(folder, output, name, size, splits):
    with webdataset.ShardWriter(str(output / f"{name}-%05d.tar"), maxcount=size, verbose=0) as writer:
        for filename, content, captions in samples(folder, splits):
            writer.write({"__key__": Path(filename).stem, "jpg": content, "json": {"captions": captions}})


def losses(folder):
    keys = ("step", "loss", "grad_norm", "val_loss")
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: line[key] for key in keys if key in line} for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = (arguments.work or Path(tempfile.mkdtemp())).resolve()
    folder, parquet, tars = work / "folder", work / "parquet", work / "tars"
    run("prepare-data", "--dataset", "flickr8k", "--source", arguments.archives, "--output", folder)
    if not tars.exists():
        parquet.mkdir()
        tars.mkdir()
        for name, splits in [("train", {"train", "restval"}), ("val", {"val"})]:
            write_parquet(folder, parquet, name, 4 if name == "train" else 1, splits)
            write_tars(folder, tars, name, 1000, splits)
    sets = {
        "folder": (folder, ""),
        "parquet": (work / "parquet_index", f'shards = ["{parquet}/*.parquet"]'),
        "tars": (work / "tars_index", f'shards = ["{tars}"]'),
    }
    for train in ["frozen", "full"]:
        found = {}
        for kind, (directory, shards) in sets.items():
            name = f"{kind}_{train}_{time.time_ns()}"
            config = work / f"{name}.toml"
            values = {"name": name, "work": work, "directory": directory, "shards": shards, "train": train}
            values |= {"encoder": arguments.encoder.resolve()}
            config.write_text(CONFIG.format(**values))
            seconds = run("--config", config)
            found[kind] = losses(work / "runs" / name)
            print(f"{kind}, encoder {train}: {seconds:.1f} s, {len(found[kind])} records")
        for kind in ["parquet", "tars"]:
            if found[kind] != found["folder"]:
                pairs = zip(found["folder"], found[kind])
                raise SystemExit(f"FAILED: {kind}, encoder {train}: {next(pair for pair in pairs if pair[0] != pair[1])}")
        print(f"encoder {train}: all losses have the same digits")


if __name__ == "__main__":
    main()
