"""PyTorch's side of benches/update.rs: clip_grad_norm_ and AdamW over the same parameters. Prints one line of JSON."""

import argparse
import json
import statistics
import time

import torch

MATRICES = [(10_000, 512), (512, 1536), (512, 512), (512, 1024), (512, 2048), (2048, 512)]
LAYERS, REPETITIONS = 6, 15

parser = argparse.ArgumentParser()
parser.add_argument("--fused", action="store_true")
arguments = parser.parse_args()

parameters = []
for layer in range(LAYERS):
    for rows, columns in MATRICES[1 if layer else 0 :]:
        for shape in [(rows, columns), (columns,)]:
            parameter = torch.nn.Parameter(torch.full(shape, 0.1))
            parameter.grad = torch.full(shape, 0.01)
            parameters.append(parameter)
optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, fused=arguments.fused or None)
seconds = []
for _ in range(REPETITIONS):
    started = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    seconds.append(time.perf_counter() - started)
print(json.dumps({"seconds": statistics.median(seconds[2:]), "parameters": sum(p.numel() for p in parameters)}))
