"""Runs the official `wandb sync` on an offline run of ours and checks that all of it arrives.

    python wandb_sync.py PATH/TO/log-small-run

Three runs are sent: one that ended, one that was killed, and one that was killed and then resumed. Needs `wandb==0.31.0`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

from wandb_compare import ENVIRONMENT, PNG
from wandb_read_log import records
from wandb_recorder import Recorder


def log(binary, folder, picture, *resume, end="finish"):
    environment = {**os.environ, **ENVIRONMENT, "WANDB_MODE": "offline", "WANDB_DIR": folder, "SMALL_RUN_END": end}
    done = subprocess.run([binary, folder, picture, *resume], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == (end == "finish"), done.stderr
    return json.loads(done.stdout)


def sync(run):
    recorder = Recorder().start()
    environment = {**os.environ, **ENVIRONMENT, "WANDB_BASE_URL": recorder.url, "WANDB_SILENT": "false"}
    command = [os.path.join(os.path.dirname(sys.executable), "wandb"), "sync", run["folder"]]
    # It writes logs of its own into `wandb/` of the current folder.
    folder = os.path.dirname(os.path.dirname(run["folder"]))
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return recorder, done.stdout + done.stderr


def check(recorder, run, sessions, exit_code):
    decoded = list(records(f"{run['folder']}/run-{run['id']}.wandb"))
    assert [record.num for record in decoded] == list(range(1, len(decoded) + 1))
    rows = list(map(json.loads, recorder.lines("wandb-history.jsonl")))
    assert [row["_step"] for row in rows] == list(range(7)), rows
    assert rows[5]["train/loss"] == 1 / 6 and rows[5]["nested"] == {"a": 5}
    assert rows[6]["nan"] != rows[6]["nan"] and rows[6]["endless"] == float("inf")
    pictures = rows[6]["val/samples"]
    assert pictures["captions"] == ["a dog", "ein Hündchen"] and pictures["_type"] == "images/separated"
    uploads = recorder.uploads()
    assert all(uploads[name] == PNG for name in pictures["filenames"])
    for name in ("config.yaml", "wandb-metadata.json", "wandb-summary.json", "output.log"):
        assert name in uploads, f"{name} did not arrive: {sorted(uploads)}"
    created = recorder.operations("UpsertBucket")
    first, config = created[0], json.loads([v["config"] for v in created if v.get("config")][-1])
    assert config["model"]["value"] == {"hidden": 8, "layers": [1, 2]} and config["tiny"]["value"] == 1e-7
    assert config["_wandb"]["value"]["t"]["5"], "the server would not take the run for one that has started"
    assert first["name"] == run["id"] and first["displayName"] == "my name" and first["tags"] == ["x", "y"]
    assert first["groupName"] == "g" and first["jobType"] == "train" and first["notes"] == "some notes"
    summary = json.loads(recorder.stream_last("wandb-summary.json"))
    assert summary["best"] == 0.5 and summary["train/loss"] == 1 / 6 and summary["_step"] == 6, summary
    lines = [line.split(" ", 1)[1] for line in recorder.lines("output.log")]
    assert lines == (["the run begins"] + [f"step {step}" for step in range(6)]) * sessions, lines
    events = list(map(json.loads, recorder.lines("wandb-events.jsonl")))
    assert [event["system.gpu.0.gpu"] for event in events] == list(range(6)) * sessions
    last = recorder.stream()[-1]
    assert last["complete"] is True and last["exitcode"] == exit_code, last
    return len(rows), len(lines), len(events), len(uploads)


def main(binary):
    binary = os.path.abspath(binary)
    folder = tempfile.mkdtemp()
    try:
        picture = os.path.join(folder, "picture.png")
        with open(picture, "wb") as file:
            file.write(PNG)
        ended = log(binary, folder, picture)
        killed = log(binary, folder, picture, end="kill")
        went_on = log(binary, folder, picture, end="kill")
        # It makes steps 3 to 6 again, as after a checkpoint of step 2.
        again = log(binary, folder, picture, went_on["id"], "2")
        assert again["folder"] == went_on["folder"] and again["id"] == went_on["id"]
        # And a torn record at its end.
        with open(f"{killed['folder']}/run-{killed['id']}.wandb", "ab") as file:
            file.write(b"\x01\x02\x03\x04\x40\x00\x01torn")
        killed_on = log(binary, folder, picture, killed["id"], "6", end="kill")
        for name, run, sessions, code in [("ended", ended, 1, 0), ("killed", killed_on, 2, 1), ("went on", again, 2, 0)]:
            recorder, said = sync(run)
            counts = check(recorder, run, sessions, code)
            print("{}: {} rows, {} console lines, {} measurements, {} files arrived".format(name, *counts))
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
