"""Reads a `.wandb` file with the official protobuf classes.

    python wandb_read_log.py RUN.wandb      prints each record on one line
"""

import struct
import sys
import zlib

from wandb.proto import wandb_internal_pb2 as pb

BLOCK = 32 * 1024
HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def records(path):
    """The records of the file at `path`; raises where a chunk is damaged."""
    data = open(path, "rb").read()
    assert data[:7] == HEADER, f"{path} does not begin as a .wandb file does"
    position, parts = 7, b""
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            assert data[position : position + left] == bytes(len(data[position : position + left])), "padding"
            position += left
            continue
        crc, length, kind = struct.unpack("<IHB", data[position : position + 7])
        payload = data[position + 7 : position + 7 + length]
        assert len(payload) == length, f"{path} ends in the middle of a chunk at byte {position}"
        assert zlib.crc32(bytes([kind]) + payload) == crc, f"wrong checksum at byte {position}"
        parts = payload if kind in (1, 2) else parts + payload
        position += 7 + length
        if kind in (1, 4):
            record = pb.Record()
            record.ParseFromString(parts)
            yield record


if __name__ == "__main__":
    for record in records(sys.argv[1]):
        print(str(record).replace("\n", " "))
