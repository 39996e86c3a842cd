"""Matrix products in PyTorch: a @ b.T, GFLOP/s, medians.

    python benches/peers/torch_products.py [--threads N]

Our side: RAYON_NUM_THREADS=N cargo bench --bench operations -- product
"""

import argparse
import statistics
import time

import torch

SHAPES = [(788, 3072, 768), (768, 3072, 788), (788, 768, 3072), (128, 2048, 512), (128, 10000, 512), (10000, 512, 128)]


def rate(rows: int, outputs: int, inputs: int, dtype: torch.dtype) -> float:
    a, b = (torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype))
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * rows * outputs * inputs / statistics.median(seconds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    for shape in SHAPES:
        rates = [rate(*shape, dtype) for dtype in (torch.float32, torch.bfloat16)]
        print("{} x {} x {}:".format(*shape), "f32 {:.0f}, bf16 {:.0f}".format(*rates))


if __name__ == "__main__":
    main()
