"""Checks with TensorBoard's own reader that our event files hold what was written.

    python tensorboard_reads.py FOLDER      reads a folder and prints what is in it as JSON
    python tensorboard_reads.py --check PATH/TO/write-small-events      lets that program write a folder and checks it

Needs `tensorboard`.
"""

import json
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer


def read(folder):
    """The content of a folder: scalars, texts and images by tag."""
    events = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    text = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags["tensors"]}
    return {
        "version": events.file_version,
        "scalars": {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag: [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]
            for tag in tags["tensors"]
            if text[tag] == "text"
        },
        "images": {
            tag: [(e.step, e.width, e.height, len(e.encoded_image_string)) for e in events.Images(tag)]
            for tag in tags["images"]
        },
    }


def check(program):
    """The program writes steps 1 to 13, is killed, and resumes after step 10 up to step 20 with other values."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, folder], check=True)
        found = read(folder)
        runs = EventMultiplexer().AddRunsFromDirectory(folder)
        runs.Reload()
        assert list(runs.Runs()) == ["."], runs.Runs()
    assert found["version"] == 2.0
    steps = [step for step, _ in found["scalars"]["train/loss"]]
    assert steps == list(range(1, 21)), steps
    values = [value for _, value in found["scalars"]["train/loss"]]
    assert values == [1.0] * 10 + [2.0] * 10, values
    assert found["texts"] == {"config": [(1, "**lr** 0.1, ein Hündchen"), (11, "again")]}, found["texts"]
    assert found["images"] == {"val/samples": [(10, 5, 4, 69)]}, found["images"]
    print(f"{len(steps)} scalars, {len(found['texts'])} texts, {len(found['images'])} images are read as written")


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(sys.argv[2])
    else:
        print(json.dumps(read(sys.argv[1]), indent=1))
