"""PyTorch's side of benches/image_to_tensor.rs: PIL and the ViT image processor of transformers, on one core."""

import json
import statistics
import sys
import time

import torch
from PIL import Image
from transformers import ViTImageProcessor, ViTImageProcessorPil

torch.set_num_threads(1)
# The faster of the two that transformers has is the one to beat.
results = []
for kind in [ViTImageProcessorPil, ViTImageProcessor]:
    try:
        processor = kind(size={"height": 224, "width": 224})
        seconds = []
        for _ in range(60):
            started = time.perf_counter()
            values = processor(Image.open(sys.argv[1]).convert("RGB"), return_tensors="pt").pixel_values
            seconds.append(time.perf_counter() - started)
        results.append((statistics.median(seconds), kind.__name__, float(values.sum())))
    except ImportError as error:
        print(f"{kind.__name__}: {error}", file=sys.stderr)
best = min(results)
print(json.dumps({"seconds": best[0], "processor": best[1], "sum": best[2]}))
