#!/usr/bin/env python3
"""The part of scripts/gpu-check.sh that computes: finds the libraries of CUDA, compares losses, times this program and
PyTorch in turn on one GPU, prints the table. Lies in `peers` of the folder that `gpu-check.sh pack` fills.

    python3 peers/torch_gpu.py libraries | parity LOG | training | throughput | profile | table

Results are JSON files in the folder that RESULTS names, `results` by default.
"""

import ctypes
import importlib.metadata
import json
import math
import os
import queue
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("RESULTS", HERE / "results"))
RUNS = HERE / "runs"


def save(name, result):
    """`ok` in it says whether the stage has shown what it should."""
    partial = RESULTS / f"{name}.json.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(RESULTS / f"{name}.json")


def load(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


# ---- The libraries of CUDA ----

# What our binaries open, in their order.
DRIVER = "libcuda.so.1"
NEEDED = {
    version: [DRIVER, f"libnvrtc.so.{version}", f"libcublasLt.so.{version}", f"libcublas.so.{version}", "libcurand.so.10"]
    for version in (13, 12)
}
SYSTEM = "the system"


def folders():
    """Where they lie when the system does not know them, the wheels of Python first."""
    for path in map(Path, sys.path):
        yield from sorted(path.glob("nvidia/*/lib"), reverse=True)
    for path in [f"{sys.prefix}/lib", "/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib", "/usr/local/nvidia/lib64"]:
        yield Path(path)


def opened(name):
    try:
        return ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None


def look_up(name):
    """SYSTEM where it finds the library, else its folder, nothing where nobody has it."""
    if opened(name):
        return SYSTEM
    holders = [folder for folder in folders() if (folder / name).is_file()]
    # NVRTC opens its built-in functions by itself, from beside it.
    complete = [folder for folder in holders if "nvrtc" not in name or any(folder.glob("libnvrtc-builtins.so.*"))]
    if holders and not complete:
        print(f"libraries: {holders[0]} has {name} without libnvrtc-builtins beside it", file=sys.stderr)
    return str(complete[0]) if complete else None


def number(library, function, *arguments):
    """What a function of a library writes to its last argument; 0 when it fails or is not there."""
    value, found = ctypes.c_int(0), getattr(library, function, None)
    if found:
        found(*arguments, ctypes.byref(value))
    return value.value


def version_of(name, library):
    """What a library says of itself."""
    if "nvrtc" in name:
        major = ctypes.c_int(0)
        minor = number(library, "nvrtcVersion", ctypes.byref(major))
        return f"NVRTC {major.value}.{minor}"
    for part, title in [("cublas.", "cuBLAS"), ("curand.", "cuRAND")]:
        if part in name:
            places = [number(library, f"{part[:-1]}GetProperty", place) for place in range(3)]
            return f"{title} {'.'.join(map(str, places))}"
    return None


def cuda_version(driver):
    """The newest CUDA that a driver knows, as major and minor version."""
    known = number(driver, "cuDriverGetVersion") if driver else 0
    return known // 1000, known % 1000 // 10


def package(name):
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {name}"


def nvidia_smi(fields):
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0].strip() if lines else None


def libraries():
    """Prints what LD_LIBRARY_PATH has to be for our binaries, and notes the machine."""
    known = cuda_version(opened(DRIVER))
    is_old = (0, 0) < known < (13, 0)
    if is_old:
        print(f"libraries: the driver knows CUDA up to {known[0]}.{known[1]}; it may refuse what nvcc 13 compiled", file=sys.stderr)
    # The newest that the driver can use, unless only the other is complete.
    order = [12, 13] if is_old else [13, 12]
    candidates = [{name: look_up(name) for name in NEEDED[version]} for version in order]
    found = min(candidates, key=lambda found: list(found.values()).count(None))
    for name, place in found.items():
        print(f"libraries: {name:<18} {'MISSING' if place is None else f'from {place}'}", file=sys.stderr)
    missing = [name for name, place in found.items() if place is None]
    if missing:
        searched = dict.fromkeys(str(folder) for folder in folders() if folder.is_dir())
        sys.exit(f"libraries: {', '.join(missing)} not found by the system nor in {', '.join(searched)}")
    loaded = {name: opened(name if place == SYSTEM else Path(place) / name) for name, place in found.items()}
    versions = [version_of(name, library) for name, library in loaded.items() if library]
    gpu = nvidia_smi("name,memory.total,driver_version") or "unknown GPU: nvidia-smi says nothing"
    machine = {"gpu": f"{gpu} (CUDA {'.'.join(map(str, cuda_version(loaded[DRIVER])))})", "versions": [*filter(None, versions), package("torch"), package("transformers")]}
    save("machine", machine)
    taken = dict.fromkeys(place for place in found.values() if place != SYSTEM)
    print(":".join([*taken, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":"))


# ---- Parity ----


def parity(log):
    """Counts what the test binary said."""
    words = [line.split() for line in Path(log).read_text().splitlines() if line.startswith("test ")]
    outcomes = {line[1]: line[-1] for line in words if line[-1] in ("ok", "FAILED")}
    failed = [name for name, outcome in outcomes.items() if outcome == "FAILED"]
    # A crash takes the tests behind it along.
    ended = any(line[1] == "result:" for line in words)
    save("parity", {"ok": ended and not failed and bool(outcomes), "passed": len(outcomes) - len(failed), "failed": failed, "ended": ended})
    if failed or not ended:
        sys.exit(f"parity: {len(failed)} tests failed{'' if ended else ', and the binary broke off'}: see {log}")


def parity_line(result):
    failed = f" ({', '.join(result['failed'])})" if result["failed"] else ""
    return f"- parity with the CPU: {result['passed']} tests passed, {len(result['failed'])} failed{failed}{'' if result['ended'] else '; BROKEN OFF'}"


# ---- Losses ----

MOST = 1e-3
AGAINST_CPU, ONLY_TOLD = "GPU against CPU", "not asked for: CPU here against the CPU of the build"


def read_run(path):
    """Loss by update, and the validation loss."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    # A loss that is not finite is written as null.
    losses = {entry["step"]: math.inf if entry["loss"] is None else entry["loss"] for entry in entries if entry["kind"] == "step"}
    return losses, next((entry["val_loss"] for entry in entries if entry["kind"] == "validation"), None)


def device_of(name):
    """What a run says that it was computed on."""
    path = RUNS / "training" / name / "environment.json"
    return json.loads(path.read_text())["processes"][-1]["device"] if path.is_file() else None


def difference(found, expected, last):
    """Of the updates up to `last` that both have: the largest difference and that of the last."""
    gaps = {step: abs(found[step] - expected[step]) for step in sorted(found.keys() & expected.keys()) if step <= last}
    if not gaps:
        return None
    at = max(gaps, key=gaps.get)
    return {"first": min(gaps), "last": max(gaps), "largest": gaps[at], "largest_at": at, "at_last": gaps[max(gaps)]}


def training(last, save_point):
    """Compares the curves of the runs up to the update `last`; some went on from `save_point` on the other device."""
    last = int(last)
    runs = {path.parent.name: read_run(path) for path in (RUNS / "training").glob("*/metrics.jsonl")}
    packed = read_run(HERE / "reference/metrics.jsonl")[0]
    losses = {name: runs.get(name, ({}, None))[0] for name in ("gpu", "gpu_bf16", "cpu", "gpu_from_gpu", "gpu_from_cpu", "cpu_from_gpu")}
    gpu, cpu = losses["gpu"], losses["cpu"]
    is_whole = last in cpu
    pairs = {
        AGAINST_CPU: (gpu, cpu if is_whole else packed),
        f"CPU after {save_point} updates on the GPU, against CPU": (losses["cpu_from_gpu"], cpu),
        f"GPU after {save_point} updates on the CPU, against GPU": (losses["gpu_from_cpu"], gpu),
        f"GPU after {save_point} updates of its own, saved and read, against GPU": (losses["gpu_from_gpu"], gpu),
        ONLY_TOLD: (cpu, packed),
    }
    compared = {name: difference(*pair, last) for name, pair in pairs.items()}
    failures = [f"{name}: not within {MOST}" for name, gap in compared.items() if name != ONLY_TOLD and not within(gap)]
    if not compared[AGAINST_CPU] or compared[AGAINST_CPU]["last"] != last:
        failures.append(f"the curves do not reach update {last}")
    if not gpu or gpu[min(gpu)] - gpu[max(gpu)] < 0.5:
        failures.append("nothing was learnt")
    elsewhere = [name for name in losses if losses[name] and (device_of(name) == "cpu") != name.startswith("cpu")]
    if elsewhere:
        failures.append(f"not computed where they should be: {', '.join(elsewhere)}")
    finals = {name: [losses[name][max(losses[name])], runs[name][1]] for name in ("gpu", "gpu_bf16") if losses[name]}
    if len(finals) < 2:
        failures.append("the run in f32 or that in bf16 left no losses")
    result = {"ok": not failures, "compared": compared, "finals": finals, "failures": failures, "is_whole": is_whole}
    save("training", result)
    print("\n".join(training_lines(result)))
    if failures:
        sys.exit("training: " + "; ".join(failures))


def within(gap):
    return gap is not None and gap["largest"] <= MOST


def training_lines(result):
    for name, gap in result["compared"].items():
        of_build = name == AGAINST_CPU and not result["is_whole"]
        name = f"loss, {name}{' of the build, since the one here was too slow' if of_build else ''}"
        if gap is None:
            yield f"- {name}: NOT COMPARED"
            continue
        numbers = f"largest difference {gap['largest']:.2e} (update {gap['largest_at']}), {gap['at_last']:.2e} at update {gap['last']}"
        verdict = "" if ONLY_TOLD in name else f"; at most {MOST:.0e}: {'yes' if within(gap) else 'NO'}"
        yield f"- {name}, updates {gap['first']} to {gap['last']}: {numbers}{verdict}"
    for name, (final, validation) in result["finals"].items():
        behind = "" if validation is None else f", on the validation split {validation:.4f}"
        yield f"- last loss on the GPU in {'bf16' if 'bf16' in name else 'f32'}: {final:.4f}{behind}"
    yield from (f"- training FAILED: {failure}" for failure in result["failures"])


# ---- Speed ----

DEVICE, ROUNDS = "cuda:0", 3
# Seconds until PyTorch has made its first steps, plain and compiled, and seconds of a measurement.
READY, COMPILED, MEASURED = 120, 150, 120


@dataclass
class Row:
    """One line of the table, and how many times as fast as PyTorch ours should be."""

    name: str
    work: str
    required: float
    arguments: tuple


SIZES = ("--vit", "base", "--dim", "512", "--layers", "6", "--vocab", "10000", "--seq", "32", "--warmup", "10", "--steps", "30")
ROWS = [
    Row("trained", "ViT-B/16 trained + decoder 512/6, batch 128, bf16", 0.9, ("--encoder", "train", "--batch", "128", *SIZES)),
    Row("frozen", "ViT-B/16 frozen + decoder 512/6, batch 128, bf16", 1.0, ("--encoder", "frozen", "--batch", "128", *SIZES)),
    Row("cached", "decoder 512/6 on cached ViT-B/16 features, batch 512, bf16", 1.0, ("--encoder", "cached", "--batch", "512", *SIZES)),
    Row("captions", "beam search of width 5, decoder 512/6, batch 64", 2.0, ("--batch", "64", "--num-beams", "5")),
]


class NoResultError(Exception):
    """Why there is no number."""


def options(log, is_ours=False):
    """For a program: nothing is looked for in the network, and what was compiled once serves the next start."""
    changes = {"HF_HUB_OFFLINE": "1", "TORCHINDUCTOR_CACHE_DIR": str(RUNS / "inductor"), "TOKENIZERS_PARALLELISM": "false"}
    if is_ours and os.environ.get("OURS_LIBRARY_PATH"):
        changes["LD_LIBRARY_PATH"] = os.environ["OURS_LIBRARY_PATH"]
    return {"env": os.environ | changes, "cwd": HERE, "text": True, "stderr": log, "stdout": subprocess.PIPE}


def last_line(log):
    lines = Path(log.name).read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "without a word"


def run(command, log, seconds=MEASURED, is_ours=False):
    """The JSON that a program prints last, if any."""
    try:
        done = subprocess.run([str(word) for word in command], timeout=seconds, **options(log, is_ours))
    except subprocess.TimeoutExpired:
        raise NoResultError(f"did not finish in {seconds} s") from None
    if done.returncode != 0:
        raise NoResultError(f"failed: {last_line(log)}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


class Peer:
    """PyTorch's training steps in a process that lives through all rounds, so that it compiles once."""

    def __init__(self, name, arguments):
        self.log = open(RESULTS / f"{name}.log", "w")
        command = [sys.executable, "peers/torch_step.py", *arguments, "--rounds"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, **options(self.log))
        self.started, self.lines = time.monotonic(), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put(None)

    def answer(self, deadline):
        try:
            line = self.lines.get(timeout=max(1.0, deadline - time.monotonic()))
        except queue.Empty:
            self.process.kill()
            raise NoResultError(f"did not finish in {deadline - self.started:.0f} s") from None
        if line is None:
            raise NoResultError(f"failed: {last_line(self.log)}")
        return line if line == "ready" or line.startswith("{") else self.answer(deadline)

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.answer(time.monotonic() + MEASURED))["images_per_s"]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def in_turn(row, sides, rounds=ROUNDS):
    """Each side once in each round, in images/s; one without a result is left out from then on."""
    rates, reasons = {side: [] for side in sides}, {}
    for _ in range(rounds):
        for side in [side for side in sides if side not in reasons]:
            try:
                rates[side].append(sides[side]())
                print(f"{row.name}, {side}: {rates[side][-1]:.1f} images/s", flush=True)
            except (NoResultError, OSError) as reason:
                reasons[side] = str(reason)
                print(f"{row.name}, {side}: {reason}", flush=True)
    return {"rates": rates, "reasons": reasons}


def measure_steps(row):
    """Training steps: ours, PyTorch's, PyTorch's compiled."""
    arguments = [*row.arguments, "--amp", "--device", DEVICE]
    peers = {"eager": Peer(f"{row.name}-eager", arguments), "compile": Peer(f"{row.name}-compile", [*arguments, "--compile"])}
    sides, late = {}, {}
    try:
        with open(RESULTS / f"{row.name}-ours.log", "w") as log:
            command = [HERE / "bin/train_step", *row.arguments, "--precision", "bf16", "--device", DEVICE]
            sides["ours"] = lambda: run(command, log, is_ours=True)["captions_per_s"]
            for side, peer in peers.items():
                try:
                    peer.answer(peer.started + (COMPILED if side == "compile" else READY))
                    sides[side] = peer.measure
                except NoResultError as reason:
                    late[side] = str(reason)
                    print(f"{row.name}, {side}: {reason}", flush=True)
            result = in_turn(row, sides)
        return result | {"reasons": result["reasons"] | late}
    finally:
        for peer in peers.values():
            peer.end()


def make_captioner(folder, log):
    """A decoder trained on the packed photographs, as Python reads it, and the encoder's outputs of 1,000 images."""
    shutil.rmtree(folder, ignore_errors=True)
    changes = [f"output_dir={folder}", "name=captioner", f"training.device={DEVICE}", "model.encoder.train=frozen"]
    changes += ["model.decoder.hidden_size=512", "model.decoder.num_layers=6", "model.decoder.num_heads=8"]
    changes += ["model.decoder.intermediate_size=2048", "tokenizer.vocab_size=10000", "tokenizer.min_frequency=1"]
    changes += ["training.num_epochs=8", "training.batch_size=64", "training.save_interval=100000"]
    program, model, features = HERE / "bin/caption-train", folder / "exported", folder / "features.safetensors"
    run([program, "--config", "config.toml", *(word for change in changes for word in ("--set", change))], log, is_ours=True)
    run([program, "export", "--checkpoint", folder / "captioner/checkpoints/last.safetensors", "--output", model], log, is_ours=True)
    shared = ["--model", model, "--features", features]
    photographs = ["data/flickr8k/images", "data/flickr8k/dataset.json", 200]
    run([sys.executable, "peers/torch_beam_search.py", *shared, "--device", DEVICE, "--make-features", *photographs], log)
    from safetensors.torch import load_file, save_file

    states = load_file(features)["encoder_hidden_states"]
    save_file({"encoder_hidden_states": states.repeat(1000 // len(states), 1, 1)}, features)
    return shared


def measure_captions(row):
    """Beam search, ours and that of transformers; in f32 and under autocast at first, then the faster of the two."""
    folder = RUNS / "captioner"
    with open(RESULTS / f"{row.name}.log", "w") as log:
        try:
            shared = [*make_captioner(folder, log), *row.arguments, "--device", DEVICE]
        except NoResultError as reason:
            print(f"{row.name}: no model to write captions with: {reason}", flush=True)
            return {"rates": {"ours": []}, "reasons": {"ours": f"no model: {reason}"}}

        def rate(name, program, *more):
            found = run([*program, *shared, "--captions", folder / f"{name}.json", *more], log, is_ours=name == "ours")
            return found["images"] / found["seconds"]

        peer = [sys.executable, "peers/torch_beam_search.py"]
        ours = {"ours": lambda: rate("ours", [HERE / "bin/beam_search"])}
        theirs = {"f32": lambda: rate("f32", peer), "bf16": lambda: rate("bf16", peer, "--amp")}
        first = in_turn(row, ours | theirs, 1)
        faster = max(theirs, key=lambda name: sum(first["rates"][name]))
        result = in_turn(row, ours | {"eager": theirs[faster]}, ROUNDS - 1)
    for side, earlier in [("ours", "ours"), ("eager", faster)]:
        result["rates"][side] = first["rates"][earlier] + result["rates"][side]
    captions = [json.loads(path.read_text()) for path in (folder / "ours.json", folder / "f32.json") if path.is_file()]
    if len(captions) == 2:
        equal = sum(here == there for here, there in zip(*captions))
        length = statistics.mean(map(len, captions[0]))
        result["note"] = f"captions: {equal} of {len(captions[0])} are token for token those of PyTorch in f32, {length:.1f} tokens on average; PyTorch was faster in {faster}"
    return result


def throughput():
    """Measures the rows of which nothing of ours was measured yet."""
    RUNS.mkdir(exist_ok=True)

    def is_done(row):
        result = load(f"throughput-{row.name}")
        return bool(result and result["rates"]["ours"])

    for row in ROWS:
        if not is_done(row):
            save(f"throughput-{row.name}", measure_captions(row) if row.name == "captions" else measure_steps(row))
    failed = [row.name for row in ROWS if not is_done(row)]
    if failed:
        sys.exit(f"throughput: nothing measured of ours for {', '.join(failed)}; the logs are in {RESULTS}")
    save("throughput", {"ok": True})


def profile():
    """Our steps at several batch sizes, and the most memory of the GPU that was taken meanwhile."""
    entries = []
    with open(RESULTS / "profile.log", "w") as log:
        for precision, batch in [("bf16", 16), ("bf16", 32), ("bf16", 64), ("bf16", 128), ("bf16", 256), ("tf32", 64), ("f32", 64)]:
            used, over = [], threading.Event()

            def watch():
                while not over.wait(0.2):
                    used.append(nvidia_smi("memory.used") or "unknown")

            watcher = threading.Thread(target=watch)
            watcher.start()
            command = [HERE / "bin/train_step", "--encoder", "train", *SIZES, "--batch", batch, "--precision", precision, "--device", DEVICE]
            try:
                rate = f"{run(command, log, 60, is_ours=True)['captions_per_s']:.0f} images/s"
            except NoResultError as reason:
                rate = str(reason)
            over.set()
            watcher.join()
            memory = max(used, key=lambda text: int(text.split()[0]) if text[0].isdigit() else -1, default="unknown")
            entries.append(f"- ViT-B/16 trained + decoder 512/6, batch {batch}, {precision}: {rate}, memory {memory}")
            print(entries[-1], flush=True)
    save("profile", {"ok": True, "entries": entries})


# ---- The table ----


def cell(result, side):
    rates = result["rates"].get(side)
    return f"{statistics.median(rates):.1f}" if rates else result["reasons"].get(side, "not measured").split(":")[0]


def ratio(row, result):
    """Our median over PyTorch's better one, with the range over the rounds, and whether it is enough."""
    ours, theirs = result["rates"].get("ours"), [rates for side, rates in result["rates"].items() if side != "ours" and rates]
    if not ours or not theirs:
        return "", "NO" if theirs else ""
    best = max(theirs, key=statistics.median)
    found = statistics.median(ours) / statistics.median(best)
    each = [here / there for here, there in zip(ours, best)]
    return f"{found:.2f} ({min(each):.2f}-{max(each):.2f})", "yes" if found >= row.required else "NO"


def table():
    print("| work | ours, images/s | PyTorch eager | PyTorch compile | ratio | required | reached |\n|---|---|---|---|---|---|---|")
    lines = []
    for row in ROWS:
        result = load(f"throughput-{row.name}") or {"rates": {}, "reasons": dict.fromkeys(("ours", "eager", "compile"), "not run")}
        found, reached = ratio(row, result)
        cells = [row.work, *(cell(result, side) for side in ("ours", "eager", "compile")), found, f"{row.required:.1f}", reached]
        print("|", " | ".join(cells), "|")
        lines += [f"- {row.name}, {side}: {reason}" for side, reason in result["reasons"].items() if ":" in reason]
        lines += [f"- {result['note']}"] if "note" in result else []
    print(f"\nimages/s, medians of {ROUNDS} rounds in turn on one GPU; the ratio is ours over PyTorch's better one, in brackets its range.\n")
    results = {name: load(name) for name in ("parity", "training", "profile", "machine")}
    lines.append(parity_line(results["parity"]) if results["parity"] else "- parity with the CPU: NOT RUN")
    lines += training_lines(results["training"]) if results["training"] else ["- training: NOT RUN"]
    lines += results["profile"]["entries"] if results["profile"] else []
    lines += [f"- {results['machine']['gpu']}", f"- {', '.join(results['machine']['versions'])}"] if results["machine"] else []
    commit = HERE / "commit"
    print("\n".join([*lines, f"- commit of the binaries: {commit.read_text().strip() if commit.is_file() else 'unknown'}"]))


COMMANDS = {"libraries": libraries, "parity": parity, "training": training, "throughput": throughput, "profile": profile, "table": table}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    RESULTS.mkdir(parents=True, exist_ok=True)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
