#!/usr/bin/env python3
"""The part of scripts/gpu-check.sh that computes: finds the libraries of CUDA, compares losses, times this program and
PyTorch in turn on one GPU, prints the table. Lies in `peers` of the folder that `gpu-check.sh pack` fills.

    python3 peers/torch_gpu.py libraries | parity LOG | training LAST_UPDATE SAVE_POINT | processes SAVE_POINT
    python3 peers/torch_gpu.py throughput | profile | table

Results are JSON files in the folder that RESULTS names, `results` by default.
"""

import ctypes
import importlib.metadata
import json
import math
import os
import re
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
    """`ok` in a stage's result says whether it has shown what it should."""
    partial = RESULTS / f"{name}.json.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(RESULTS / f"{name}.json")


def load(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


# ---- The libraries of CUDA ----

DRIVER, SYSTEM = "libcuda.so.1", "the system"


def needed(version):
    """What our binaries open, in their order."""
    return [DRIVER, *(f"lib{name}.so.{version}" for name in ("nvrtc", "cublasLt", "cublas")), "libcurand.so.10"]


def folders():
    """Where they lie when the system does not know them, the wheels of Python first."""
    for path in map(Path, sys.path):
        yield from sorted(path.glob("nvidia/*/lib"), reverse=True)
    cuda = "/usr/local/cuda"
    yield from map(Path, [f"{sys.prefix}/lib", f"{cuda}/lib64", f"{cuda}/targets/x86_64-linux/lib", "/usr/local/nvidia/lib64"])


def opened(name):
    try:
        return ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None


def look_up(name):
    """SYSTEM if the system finds the library, else its folder, None if it is missing."""
    if opened(name):
        return SYSTEM
    holders = [folder for folder in folders() if (folder / name).is_file()]
    # NVRTC opens its built-in functions by itself, from its own folder.
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
            return f"{title} " + ".".join(str(number(library, f"{part[:-1]}GetProperty", place)) for place in range(3))
    return None


def cuda_of(driver):
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
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def libraries():
    """Prints what LD_LIBRARY_PATH has to be for our binaries, and notes the machine."""
    known = cuda_of(opened(DRIVER))
    is_old = (0, 0) < known < (13, 0)
    if is_old:
        known = ".".join(map(str, known))
        print(f"libraries: the driver knows CUDA up to {known}; it may refuse what nvcc 13 compiled", file=sys.stderr)
    # The newest that the driver can use, unless only the other is complete.
    candidates = [{name: look_up(name) for name in needed(version)} for version in ([12, 13] if is_old else [13, 12])]
    found = min(candidates, key=lambda found: list(found.values()).count(None))
    for name, place in found.items():
        print(f"libraries: {name:<18} {f'from {place}' if place else 'MISSING'}", file=sys.stderr)
    missing = [name for name, place in found.items() if place is None]
    if missing:
        searched = dict.fromkeys(str(folder) for folder in folders() if folder.is_dir())
        sys.exit(f"libraries: {', '.join(missing)} not found by the system nor in {', '.join(searched)}")
    loaded = {name: opened(name if place == SYSTEM else Path(place) / name) for name, place in found.items()}
    gpu = nvidia_smi("name,memory.total,driver_version") or "unknown GPU: nvidia-smi says nothing"
    versions = [version_of(name, library) for name, library in loaded.items() if library]
    software = [*filter(None, versions), package("torch"), package("transformers")]
    save("machine", {"gpu": f"{gpu} (CUDA {'.'.join(map(str, cuda_of(loaded[DRIVER])))})", "software": software})
    # Only several processes need it.
    found["libnccl.so.2"] = look_up("libnccl.so.2")
    taken = dict.fromkeys(place for place in found.values() if place not in (SYSTEM, None))
    print(":".join([*taken, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":"))


# ---- Parity ----


def parity(log):
    """Counts what the test binary said."""
    text = Path(log).read_text()
    failed = re.findall(r"^test (\S+) \.\.\. .*FAILED$", text, re.MULTILINE)
    # A crash takes this line along, and the tests that were still to come.
    counts = re.search(r"^test result: .* (\d+) passed; (\d+) failed", text, re.MULTILINE)
    passed = int(counts[1]) if counts else len(re.findall(r"^test \S+ \.\.\. .*ok$", text, re.MULTILINE))
    is_whole = bool(counts) and int(counts[2]) == len(failed)
    result = {"ok": is_whole and not failed and passed > 0, "passed": passed, "failed": failed, "is_whole": is_whole}
    save("parity", result)
    if not result["ok"]:
        sys.exit(f"{parity_line(result)}; see {log}")


def parity_line(result):
    names = f" ({', '.join(result['failed'])})" if result["failed"] else ""
    end = "" if result["is_whole"] else ", AND THE BINARY BROKE OFF"
    return f"parity with the CPU: {result['passed']} tests passed, {len(result['failed'])} failed{names}{end}"


# ---- Losses ----

MOST = 1e-3
AGAINST_CPU, ONLY_TOLD = "GPU against CPU", "CPU here against the CPU of the build"
NAMES = ("gpu", "gpu_bf16", "gpu_from_gpu", "gpu_from_cpu", "cpu", "cpu_from_gpu")


def read_run(folder):
    """Loss by update, and the validation loss."""
    path = folder / "metrics.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    # A loss that is not finite is written as null.
    losses = {e["step"]: math.inf if e["loss"] is None else e["loss"] for e in entries if e["kind"] == "step"}
    return losses, next((e["val_loss"] for e in entries if e["kind"] == "validation"), None)


def device_of(name):
    """What a run says that it was computed on."""
    return json.loads((RUNS / "training" / name / "environment.json").read_text())["processes"][-1]["device"]


def difference(found, expected, last):
    """Of the updates up to `last` that both have: the largest difference and that of the last."""
    gaps = {step: abs(found[step] - expected[step]) for step in sorted(found.keys() & expected.keys()) if step <= last}
    if not gaps:
        return None
    at = max(gaps, key=gaps.get)
    return {"first": min(gaps), "last": max(gaps), "largest": gaps[at], "largest_at": at, "at_last": gaps[max(gaps)]}


def is_within(gap):
    return gap is not None and gap["largest"] <= MOST


def training(last, save_point):
    """Compares the curves of the runs up to the update `last`; some resumed from `save_point` on the other device."""
    last = int(last)
    runs = {name: read_run(RUNS / "training" / name) for name in NAMES}
    losses = {name: run[0] for name, run in runs.items()}
    packed, gpu, cpu = read_run(HERE / "reference")[0], losses["gpu"], losses["cpu"]
    is_slow = last not in cpu
    pairs = {
        AGAINST_CPU: (gpu, packed if is_slow else cpu),
        f"CPU from the GPU's update {save_point} on, against CPU": (losses["cpu_from_gpu"], cpu),
        f"GPU from the CPU's update {save_point} on, against GPU": (losses["gpu_from_cpu"], gpu),
        f"GPU from its own update {save_point} on, against GPU": (losses["gpu_from_gpu"], gpu),
        ONLY_TOLD: (cpu, packed),
    }
    compared = {name: difference(*pair, last) for name, pair in pairs.items()}
    failures = [f"{name}: not within {MOST}" for name, gap in compared.items() if name != ONLY_TOLD and not is_within(gap)]
    failures += [f"no losses of {name}" for name in NAMES if not losses[name]]
    devices = {name: device_of(name) for name in NAMES if losses[name]}
    wrong = [name for name, device in devices.items() if (device == "cpu") != name.startswith("cpu")]
    failures += [f"{name} was computed on {devices[name]}" for name in wrong]
    if last not in gpu or gpu[min(gpu)] - gpu[last] < 0.5:
        failures.append("nothing was learnt")
    finals = {name: [losses[name][max(losses[name])], runs[name][1]] for name in ("gpu", "gpu_bf16") if losses[name]}
    result = {"ok": not failures, "compared": compared, "finals": finals, "failures": failures, "is_slow": is_slow}
    save("training", result)
    print("\n".join(training_lines(result)))
    if failures:
        sys.exit("training: " + "; ".join(failures))


def training_lines(result):
    for name, gap in result["compared"].items():
        label = f"{name} of the build, for the one here was too slow" if result["is_slow"] and name == AGAINST_CPU else name
        if gap is None:
            yield f"- loss, {label}: NOT COMPARED"
            continue
        where = f"largest difference {gap['largest']:.1e} at update {gap['largest_at']}, {gap['at_last']:.1e} at {gap['last']}"
        verdict = "not asked for" if name == ONLY_TOLD else f"at most {MOST:.0e}: {'yes' if is_within(gap) else 'NO'}"
        yield f"- loss, {label}, updates {gap['first']} to {gap['last']}: {where}; {verdict}"
    for name, (final, validation) in result["finals"].items():
        behind = "" if validation is None else f", of the validation split {validation:.4f}"
        yield f"- last loss on the GPU in {'bf16' if 'bf16' in name else 'f32'}: {final:.4f}{behind}"
    yield from (f"- training FAILED: {failure}" for failure in result["failures"])


# ---- Several processes ----

OF_ONE = "one"


def processes(save_point):
    """Compares the losses of two processes on one GPU with those of one."""
    runs = {name: read_run(RUNS / "processes" / name) for name in (OF_ONE, "two", "two_fast", "one_from_two")}
    losses = {name: run[0] for name, run in runs.items()}
    last = max(losses[OF_ONE], default=0)
    compared = {name: difference(losses[name], losses[OF_ONE], last) for name in losses if name != OF_ONE}
    failures = [f"{name}: not within {MOST}" for name, gap in compared.items() if not is_within(gap)]
    failures += [f"{name} ended at update {max(run, default=0)} of {last}" for name, run in losses.items() if last not in run]
    if losses["one_from_two"] and min(losses["one_from_two"]) != int(save_point) + 1:
        failures.append(f"one_from_two began at update {min(losses['one_from_two'])}")
    result = {"ok": not failures, "compared": compared, "failures": failures}
    save("processes", result)
    print("\n".join(processes_lines(result)))
    if failures:
        sys.exit("processes: " + "; ".join(failures))


def processes_lines(result):
    labels = {
        "two": "two processes on one GPU",
        "two_fast": "the same with NCCL's own sum",
        "one_from_two": "one process that resumed where two were",
    }
    for name, gap in result["compared"].items():
        if gap is None:
            yield f"- processes, {labels[name]}: NOT COMPARED"
            continue
        same = "the same bits" if gap["largest"] == 0 else f"largest difference {gap['largest']:.1e} at update {gap['largest_at']}"
        yield f"- processes, {labels[name]} against one, updates {gap['first']} to {gap['last']}: {same}"
    yield from (f"- processes FAILED: {failure}" for failure in result["failures"])


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
    arguments: list


def steps(encoder, batch):
    model = "--vit base --dim 512 --layers 6 --vocab 10000 --seq 32".split()
    return ["--encoder", encoder, "--batch", str(batch), *model, "--warmup", "10", "--steps", "30"]


ROWS = [
    Row("trained", "ViT-B/16 trained + decoder 512/6, batch 128, bf16", 0.9, steps("train", 128)),
    Row("frozen", "ViT-B/16 frozen + decoder 512/6, batch 128, bf16", 1.0, steps("frozen", 128)),
    Row("cached", "decoder 512/6 on cached ViT-B/16 features, batch 512, bf16", 1.0, steps("cached", 512)),
    Row("captions", "beam search of width 5, decoder 512/6, batch 64", 2.0, ["--batch", "64", "--num-beams", "5"]),
]


class NoResultError(Exception):
    """Why a number is missing."""


def options(log, is_ours=False):
    """For a program: nothing is looked for in the network, and what was compiled once serves the next start."""
    changes = {"HF_HUB_OFFLINE": "1", "TORCHINDUCTOR_CACHE_DIR": str(RUNS / "inductor"), "TOKENIZERS_PARALLELISM": "false"}
    if is_ours and os.environ.get("OURS_LIBRARY_PATH"):
        changes["LD_LIBRARY_PATH"] = os.environ["OURS_LIBRARY_PATH"]
    return {"env": os.environ | changes, "cwd": HERE, "text": True, "stderr": log, "stdout": subprocess.PIPE}


def complaint(log):
    """The last line of an error, which hints may follow."""
    lines = [line.strip() for line in Path(log.name).read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["without a word"])[-1][:300]


def run(command, log, seconds=MEASURED, is_ours=False):
    """The JSON that a program prints last, if any."""
    try:
        done = subprocess.run([str(word) for word in command], timeout=seconds, **options(log, is_ours))
    except subprocess.TimeoutExpired:
        raise NoResultError(f"did not finish in {seconds} s") from None
    if done.returncode != 0:
        raise NoResultError(f"failed: {complaint(log)}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


class Peer:
    """PyTorch's training steps in a process that lives through all rounds, so that it compiles once."""

    def __init__(self, name, arguments):
        self.log = open(RESULTS / f"{name}.log", "w")
        command = [sys.executable, "peers/torch_step.py", *arguments, "--rounds"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, **options(self.log))
        self.started = time.monotonic()

    def answer(self, seconds, since=None):
        """What it prints next, within this many seconds from `since` or now."""
        passed = time.monotonic() - since if since else 0.0
        is_late = threading.Event()
        timer = threading.Timer(max(1.0, seconds - passed), lambda: (is_late.set(), self.process.kill()))
        timer.start()
        try:
            for line in self.process.stdout:
                if line == "ready\n" or line.startswith("{"):
                    return line
        finally:
            timer.cancel()
        raise NoResultError(f"did not finish in {seconds} s" if is_late.is_set() else f"failed: {complaint(self.log)}")

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.answer(MEASURED))["images_per_s"]

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
    try:
        with open(RESULTS / f"{row.name}-ours.log", "w") as log:
            command = [HERE / "bin/train_step", *row.arguments, "--precision", "bf16", "--device", DEVICE]
            sides, late = {"ours": lambda: run(command, log, is_ours=True)["captions_per_s"]}, {}
            for side, peer in peers.items():
                try:
                    peer.answer(COMPILED if side == "compile" else READY, peer.started)
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
    run([program, "--config", "config.toml", *(w for change in changes for w in ("--set", change))], log, is_ours=True)
    checkpoint = folder / "captioner/checkpoints/last.safetensors"
    run([program, "export", "--checkpoint", checkpoint, "--output", model], log, is_ours=True)
    shared = ["--model", model, "--features", features, "--device", DEVICE]
    photographs = ["data/flickr8k/images", "data/flickr8k/dataset.json", 200]
    run([sys.executable, "peers/torch_beam_search.py", *shared, "--make-features", *photographs], log)
    from safetensors.torch import load_file, save_file

    states = load_file(features)["encoder_hidden_states"]
    save_file({"encoder_hidden_states": states.repeat(1000 // len(states), 1, 1)}, features)
    return shared


def measure_captions(row):
    """Beam search, ours and that of transformers; in f32 and under autocast at first, then the faster of the two."""
    folder = RUNS / "captioner"
    with open(RESULTS / f"{row.name}.log", "w") as log:
        try:
            shared = [*make_captioner(folder, log), *row.arguments]
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
        equal = f"{sum(a == b for a, b in zip(*captions))} of {len(captions[0])} have the tokens of PyTorch's in f32"
        length = f"{statistics.mean(map(len, captions[0])):.1f} tokens on average"
        result["note"] = f"captions: {equal}, {length}; PyTorch's column is its {faster}, the faster of f32 and bf16"
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
    lines = []
    with open(RESULTS / "profile.log", "w") as log:
        for precision, batch in [*(("bf16", 16 << place) for place in range(5)), ("tf32", 64), ("f32", 64)]:
            used, is_over = [], threading.Event()

            def watch(used=used, is_over=is_over):
                while not is_over.wait(0.2):
                    used.append(int((nvidia_smi("memory.used") or "0 MiB").split()[0]))

            watcher = threading.Thread(target=watch)
            watcher.start()
            command = [HERE / "bin/train_step", *steps("train", batch), "--precision", precision, "--device", DEVICE]
            try:
                found = f"{run(command, log, 60, is_ours=True)['captions_per_s']:.0f} images/s"
            except NoResultError as reason:
                found = str(reason)
            is_over.set()
            watcher.join()
            memory = f"{max(used, default=0)} MiB of the GPU taken"
            lines.append(f"ViT-B/16 trained + decoder 512/6, batch {batch}, {precision}: {found}, {memory}")
            print(lines[-1], flush=True)
    save("profile", {"ok": True, "lines": lines})


# ---- The table ----


def cell(result, side):
    rates = result["rates"].get(side)
    return f"{statistics.median(rates):.1f}" if rates else result["reasons"].get(side, "not measured").split(":")[0]


def ratio(row, result):
    """Our median over PyTorch's better one, with the range over the rounds, and whether it is enough."""
    ours = result["rates"].get("ours")
    theirs = [rates for side, rates in result["rates"].items() if side != "ours" and rates]
    if not ours or not theirs:
        return "", "NO" if theirs else ""
    best = max(theirs, key=statistics.median)
    found = statistics.median(ours) / statistics.median(best)
    each = [here / there for here, there in zip(ours, best)]
    enough = "yes, compile aside" if "compile" in result["reasons"] else "yes"
    return f"{found:.2f} ({min(each):.2f}-{max(each):.2f})", enough if found >= row.required else "NO"


def table():
    sides, lines = ("ours", "eager", "compile"), []
    print("| work | ours, images/s | PyTorch eager | PyTorch compile | ratio | required | reached |")
    print("|---|---|---|---|---|---|---|")
    for row in ROWS:
        result = load(f"throughput-{row.name}") or {"rates": {}, "reasons": dict.fromkeys(sides, "not run")}
        found, reached = ratio(row, result)
        cells = [row.work, *(cell(result, side) for side in sides), found, f"{row.required:.1f}", reached]
        print("|", " | ".join(cells), "|")
        lines += [f"- {row.name}, {side}: {reason}" for side, reason in result["reasons"].items() if ":" in reason]
        lines += [f"- {result['note']}"] if "note" in result else []
    print(f"\nMedians of {ROUNDS} rounds in turn on one GPU; the ratio is ours over PyTorch's better one, and its range.\n")
    tests, curves, together, scaling, machine = map(load, ("parity", "training", "processes", "profile", "machine"))
    lines.append(f"- {parity_line(tests)}" if tests else "- parity with the CPU: NOT RUN")
    lines += training_lines(curves) if curves else ["- training: NOT RUN"]
    lines += processes_lines(together) if together else ["- processes: NOT RUN"]
    lines += [f"- {line}" for line in scaling["lines"]] if scaling else []
    lines += [f"- {machine['gpu']}", f"- {', '.join(machine['software'])}"] if machine else ["- machine: NOT KNOWN"]
    commit = HERE / "commit"
    lines.append(f"- commit of the binaries: {commit.read_text().strip() if commit.is_file() else 'unknown'}")
    print("\n".join(lines))


COMMANDS = {command.__name__: command for command in (libraries, parity, training, processes, throughput, profile, table)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    RESULTS.mkdir(parents=True, exist_ok=True)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
