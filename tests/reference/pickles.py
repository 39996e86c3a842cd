"""Makes tests/fixtures/pickles/: weight files as torch writes them, and files that ask for more than tensors.

    pip install torch==2.14.0 safetensors==0.8.0 numpy
    python tests/reference/pickles.py

- `gpt2.bin`: the weights of tests/fixtures/models/gpt2 as transformers 4 saved them, with the tied head, the masks of the
  attention and `_metadata`.
- `forms.bin`: a tensor in each form that a storage and a view can have; `forms.safetensors` holds the same values in f32.
  `protocol_4.bin`, `wrapped.bin` (`{"model": {...}}`) and two shards hold some of them.
- `refused_NAME.bin`: what must be refused; no test loads it in Python.

And seeds of the fuzzer: fuzz/corpus/pickle/protocol_N, a zero byte and the pickle of tensors in storages that
fuzz/src/pickle.rs has, too.
"""

import copyreg
import io
import os
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file

assert torch.__version__.startswith("2.14.0"), torch.__version__

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FOLDER = FIXTURES / "pickles"


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def gpt2():
    weights = OrderedDict(load_file(FIXTURES / "models" / "gpt2" / "model.safetensors"))
    prefix = "transformer." if any(name.startswith("transformer.") for name in weights) else ""
    weights["lm_head.weight"] = weights[f"{prefix}wte.weight"]
    weights[f"{prefix}h.0.attn.bias"] = torch.ones(3, 3, dtype=torch.uint8).tril().view(1, 1, 3, 3)
    weights[f"{prefix}h.0.attn.masked_bias"] = torch.tensor(-1e4)
    weights._metadata = OrderedDict({"": {"version": 1}, "transformer.wte": {"version": 1}})
    return weights


def forms():
    """Each form under its name."""
    generator = torch.Generator().manual_seed(7)
    values = lambda *shape, dtype=torch.float32: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    shared = values(4, 5)
    return OrderedDict(
        f64=values(3, 2, dtype=torch.float64),
        f16=values(5, dtype=torch.float16),
        bf16=values(2, 3, dtype=torch.bfloat16),
        parameter=torch.nn.Parameter(values(2, 2)),
        scalar=values(),
        empty=values(0, 3),
        transposed=values(3, 4).t(),
        permuted=values(2, 3, 4).permute(2, 0, 1),
        columns=values(4, 6, dtype=torch.float16)[:, 1:5:2],
        expanded=values(3, 1).expand(3, 2),
        whole=shared,
        again=shared,
        rows=shared[1:3],
        column=shared[:, 2],
        ids=torch.arange(4),
        flags=torch.tensor([True, False]),
    )


def write(name, content, **options):
    torch.save(content, FOLDER / name, **options)


def seed(protocol):
    """The pickle of tensors in storages of 16, 16, 64, 0 and 16 bytes."""
    tensors = OrderedDict(
        a=torch.ones(4),
        b=torch.nn.Parameter(torch.ones(2, 4).half()),
        c=torch.ones(2, 4, dtype=torch.float64).t(),
        d=torch.ones(0, 3),
        e=torch.arange(2),
    )
    tensors["f"] = tensors["a"][1:3]
    tensors._metadata = OrderedDict({"": {"version": 1}})
    buffer = io.BytesIO()
    torch.save(tensors, buffer, pickle_protocol=protocol)
    archive = zipfile.ZipFile(buffer)
    return archive.read("archive/data.pkl")


def main():
    seeds = FIXTURES.parent.parent / "fuzz" / "corpus" / "pickle"
    seeds.mkdir(exist_ok=True)
    for protocol in [2, 4]:
        (seeds / f"protocol_{protocol}").write_bytes(b"\0" + seed(protocol))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    write("gpt2.bin", gpt2())
    tensors = forms()
    write("forms.bin", tensors)
    real = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in real.items() if name not in ["ids", "flags"]}, FOLDER / "forms.safetensors")
    some = {name: tensors[name] for name in ["f16", "transposed", "parameter"]}
    write("protocol_4.bin", some, pickle_protocol=4)
    write("wrapped.bin", {"model": some, "epoch": 3, "args": {"lr": 1e-3, "names": ["a", None]}})
    write("shard_1.bin", {name: tensors[name] for name in ["f16", "columns"]})
    write("shard_2.bin", {name: tensors[name] for name in ["transposed", "whole"]})
    for name, content in {
        "system": {"a": Calls(os.system, "touch /tmp/was_here")},
        "eval": {"a": Calls(eval, "1 + 1")},
        "torch_load": {"a": Calls(torch.load, "x.bin")},
        "reconstructor": {"a": Calls(copyreg._reconstructor, object, object, None)},
        "numpy": {"a": numpy.arange(3)},
        "module": torch.nn.Linear(1, 1),
        "hooks": {"a": Calls(torch._utils._rebuild_parameter, torch.ones(1), True, OrderedDict(hook=1))},
        "float8": {"a": torch.ones(2).to(torch.float8_e4m3fn)},
        "sparse": {"a": torch.eye(2).to_sparse()},
    }.items():
        write(f"refused_{name}.bin", content)
    write("refused_eval_4.bin", {"a": Calls(eval, "1 + 1")}, pickle_protocol=4)
    write("refused_old.bin", {"a": torch.ones(1)}, _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Identity()), FOLDER / "refused_script.bin")


main()
