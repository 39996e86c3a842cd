"""Logs one small run with the official client and with ours, and compares what reaches the server, field by field.

    python wandb_compare.py PATH/TO/log-small-run

Needs `wandb==0.31.0` and `pyyaml`. A difference that is not in KNOWN fails.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile

import yaml
from wandb_recorder import Recorder

KEY = "0123456789" * 4
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAECAIAAADJUWIXAAAADElEQVR4nGNgoAwAAABAAAG3NHzvAAAAAElFTkSuQmCC"
)
ENVIRONMENT = {
    "WANDB_API_KEY": KEY,
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "WANDB_PROJECT": "p1",
    "WANDB_ENTITY": "recorder",
    "WANDB_NAME": "my name",
    "WANDB_NOTES": "some notes",
    "WANDB_TAGS": "x,y",
    "WANDB_RUN_GROUP": "g",
    "WANDB_JOB_TYPE": "train",
    "WANDB_HOST": "machine",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_PROGRAM": "train.py",
}

# What differs on purpose: name -> reason.
KNOWN = {
    "requests.OrganizationCoreWeaveOrganizationID": "a question of the vendor's own cloud, not asked every time",
    "requests.ServerFeaturesQuery": "no feature is used that a server may lack",
    "requests.UpsertBucket": "we send the config once, with the environment; the official client sends it in parts",
    "upload.requirements.txt": "there are no Python packages",
    "config._wandb.python_version": "there is no Python",
    "config._wandb.t.3": "numbers of features of the Python client",
    "config._wandb.t.4": "there is no Python",
    "config.yaml.tiny": "the official client writes 1e-07, which YAML 1.1 reads as text",
    "metadata.python": "there is no Python",
    "metadata.executable": "the small run does not send its file",
    "metadata.codePath": "code is not saved",
    "metadata.codePathLocal": "code is not saved",
    "metadata.root": "code is not saved",
    "metadata.cpu_count": "the official client sends it with the measurements, which are off",
    "metadata.cpu_count_logical": "the official client sends it with the measurements, which are off",
    "metadata.memory": "the official client sends it with the measurements, which are off",
    "metadata.args": "the two were started with other arguments",
    "metadata.os": "the small run sends a short name",
}

OFFICIAL = """
import os, sys
import wandb
run = wandb.init(id="official", config={"lr": 1e-3, "tiny": 1e-7, "model": {"hidden": 8, "layers": [1, 2]},
                 "text": "yes", "none": None}, settings=wandb.Settings(x_disable_stats=True))
print("the run begins")
for step in range(6):
    run.log({"train/loss": 1.0 / (step + 1), "nested": {"a": step}}, step=step)
    print(f"step {step}")
picture = lambda caption: wandb.Image(sys.argv[1], caption=caption)
run.log({"nan": float("nan"), "endless": float("inf"),
         "val/samples": [picture("a dog"), picture("ein Hündchen")]}, step=6)
run.summary["best"] = 0.5
run.finish()
"""


def record(command, folder, recorder=None, returncode=0, **more):
    recorder = recorder or Recorder().start()
    environment = {**os.environ, **ENVIRONMENT, "WANDB_BASE_URL": recorder.url, "WANDB_DIR": folder, **more}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == returncode, done.stderr
    return recorder


def view(recorder):
    """What a run sent to the server, by name, without what changes from run to run."""
    first = recorder.operations("UpsertBucket")[0]
    config = json.loads([v["config"] for v in recorder.operations("UpsertBucket") if v.get("config")][-1])
    about = config.pop("_wandb")["value"]
    (environment,) = about.pop("e").values()
    found = {f"config.{k}": v for k, v in config.items()}
    found |= {f"config._wandb.{k}": v for k, v in about.items() if k != "t"}
    found |= {f"config._wandb.t.{k}": v for k, v in about["t"].items()}
    found |= {f"run.{k}": v for k, v in first.items() if v is not None and k not in ("config", "name", "id")}
    uploads = recorder.uploads()
    metadata = json.loads(uploads["wandb-metadata.json"])
    assert metadata.keys() == environment.keys(), (metadata, environment)
    assert {type(metadata[k]) for k in ("startedAt", "writerId")} == {str}
    found |= {f"metadata.{k}": v for k, v in metadata.items() if k not in ("startedAt", "writerId")}
    written = yaml.safe_load(uploads["config.yaml"])
    written.pop("_wandb")
    found |= {f"config.yaml.{k}": v for k, v in written.items()}
    for row in map(json.loads, recorder.lines("wandb-history.jsonl")):
        assert row["_timestamp"] > 1e9 and row["_runtime"] >= 0
        found |= {f"history.{row['_step']}.{k}": v for k, v in row.items() if k not in ("_timestamp", "_runtime")}
    summary = json.loads(recorder.stream_last("wandb-summary.json"))
    assert summary == json.loads(uploads["wandb-summary.json"]), "the summary file is not the summary"
    assert isinstance(summary.pop("_wandb")["runtime"], int)
    found |= {f"summary.{k}": v for k, v in summary.items() if k not in ("_timestamp", "_runtime")}
    for index, line in enumerate(recorder.lines("output.log")):
        moment, text = line.split(" ", 1)
        assert len(moment) == len("2026-11-28T11:25:50.973898"), line
        found[f"console.{index}"] = text
    found["output.log"] = uploads["output.log"].decode()
    last = recorder.stream()[-1]
    found |= {f"last.{k}": last[k] for k in ("complete", "exitcode")}
    told = {name for body in recorder.stream() for name in body.get("uploaded", [])}
    assert told == set(uploads), f"told {told}, uploaded {set(uploads)}"
    found |= {f"upload.{name}": len(c) if "media" in name else True for name, c in uploads.items()}
    found |= {f"requests.{r['operation']}": True for r in recorder.requests if r["kind"] == "graphql"}
    found["requests.UpsertBucket"] = len(recorder.operations("UpsertBucket"))
    for request in recorder.requests:
        is_ours = request["kind"] != "upload"
        assert (request["headers"].get("authorization", "").startswith("Basic ")) == is_ours, request
    return found


def check_resume(binary, folder, picture):
    """A run that is killed before everything was sent, and one that ended, resume: every row is at the server once."""
    for end in ("kill", "finish"):
        killed = -signal.SIGABRT if end == "kill" else 0
        name = f"resumed{end}"
        recorder = record([binary, folder, picture, name, "0"], folder, returncode=killed, SMALL_RUN_END=end)
        before = len(recorder.requests)
        record([binary, folder, picture, name, "2"], folder, recorder)
        assert [json.loads(row)["_step"] for row in recorder.lines("wandb-history.jsonl")] == list(range(7))
        texts = [line.split(" ", 1)[1] for line in recorder.lines("output.log")]
        assert texts == (["the run begins"] + [f"step {step}" for step in range(6)]) * 2, texts
        assert len(recorder.lines("wandb-events.jsonl")) == 12
        assert recorder.stream()[-1]["exitcode"] == 0
        print(f"resumed after {end}: {before} requests before, {len(recorder.requests) - before} after, no row twice")


def with_our_step(value):
    """The official client puts the step before into a picture's name."""
    text = json.dumps(value, sort_keys=True)
    return text.replace("val/samples_5_", "val/samples_6_")


def main(binary):
    binary = os.path.abspath(binary)
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "picture.png")
        with open(picture, "wb") as file:
            file.write(PNG)
        with open(os.path.join(folder, "official.py"), "w", encoding="utf-8") as file:
            file.write(OFFICIAL)
        official = view(record([sys.executable, "official.py", picture], folder))
        ours = view(record([binary, folder, picture], folder))
        check_resume(binary, folder, picture)
    official = {json.loads(with_our_step(name)): with_our_step(value) for name, value in official.items()}
    ours = {name: json.dumps(value, sort_keys=True) for name, value in ours.items()}
    unexpected = 0
    for name in sorted(official | ours):
        theirs, mine = official.get(name), ours.get(name)
        if theirs == mine or (theirs and mine and equal_numbers(theirs, mine)):
            continue
        reason = KNOWN.get(name)
        unexpected += reason is None
        print(f"{'known' if reason else 'UNEXPECTED'}: {name}: official {theirs}, ours {mine} ({reason})"[:400])
    equal = sum(official.get(n) == ours.get(n) for n in official | ours)
    print(f"{equal} fields of {len(official | ours)} are equal, {unexpected} differences are not known")
    return 1 if unexpected else 0


def equal_numbers(first, second):
    """Whether two JSON texts differ in how they write a number at most: 1 and 1.0."""
    return json.loads(first) == json.loads(second)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
