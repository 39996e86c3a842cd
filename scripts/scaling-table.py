#!/usr/bin/env python3
"""Prints the table of docs/scaling.md: hours of an epoch, computed from measured times and bytes.

    scripts/scaling-table.py

An update of N nodes takes the time of a node's share, plus that of the exact sum over the network: each node sends and
receives 2 (N - 1) / N times the gradients. Both are added up, as nothing overlaps. Nodes have 16 cores and compute 8
times as fast as the 2 cores that were measured. The batch is 64 captions for each node.
"""

# Milliseconds of a training step per caption on 2 cores (benches/RESULTS.md), and gigabytes of gradients.
WORK = [
    ("decoder 256/4 on cached features", 12.74, 0.044),
    ("ViT-S trained, decoder 512/6", 212.59, 0.21),
    ("BLIP base, all of it, 384 px", 5312.0, 0.90),
]
SPEEDUP = 8.0
CAPTIONS = [("Flickr30k", 145_000), ("COCO", 566_435), ("3 M", 3_000_000), ("12 M", 12_000_000)]
GIGABITS = [1, 10, 100]
NODES = [1, 4, 16, 64]
BATCH = 64


def update(milliseconds, gigabytes, nodes, gigabits):
    """Seconds of computing and of the sum."""
    compute = milliseconds / 1000 / SPEEDUP * BATCH
    return compute, 2 * (nodes - 1) / nodes * gigabytes * 8 / gigabits


def hours(seconds):
    value = seconds / 3600
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


print("| work | nodes | network | share of the sum | " + " | ".join(name for name, _ in CAPTIONS) + " |")
print("|---|---|---|---|" + "---|" * len(CAPTIONS))
for name, milliseconds, gigabytes in WORK:
    for nodes in NODES:
        for gigabits in GIGABITS if nodes > 1 else GIGABITS[:1]:
            compute, reduce = update(milliseconds, gigabytes, nodes, gigabits)
            epochs = [count / (BATCH * nodes) * (compute + reduce) for _, count in CAPTIONS]
            network = f"{gigabits} Gbit/s" if nodes > 1 else "none"
            share = f"{100 * reduce / (compute + reduce):.0f} %"
            print(f"| {name} | {nodes} | {network} | {share} | " + " | ".join(map(hours, epochs)) + " |")
