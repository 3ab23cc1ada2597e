#!/usr/bin/env python3
"""Loading the weights of one file, three ways in turn: cudream, safetensors (Python), and a plain copy of the bytes.

Usage: bench/load/load.py FILE.safetensors [--rounds 5] [--device cpu] [--cold] [--cudream build/release/bin/cudream]
Needs torch and safetensors for their rounds; leaves them out where they are not installed. Prints one JSON object a measurement,
then medians. Warm by default: the file is read once before. --cold drops it from the page cache before every measurement.
"""
import argparse
import json
import mmap
import os
import statistics
import subprocess
import time


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def plain_copy(path):
    """The whole file from a mapping through a buffer of 8 MiB."""
    buffer = bytearray(8 << 20)
    begun = time.perf_counter()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = memoryview(mapped)
        for at in range(0, len(view), len(buffer)):
            piece = view[at:at + len(buffer)]
            buffer[:len(piece)] = piece
            piece.release()
        view.release()
    return time.perf_counter() - begun


def python_safetensors(path, device):
    """Every tensor on the device; on the CPU copied out of the mapping, as a model that owns its weights must."""
    from safetensors import safe_open
    begun = time.perf_counter()
    tensors = {}
    with safe_open(path, framework="pt", device=device) as file:
        for key in file.keys():
            tensors[key] = file.get_tensor(key).clone()
    if device.startswith("cuda"):
        import torch
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def cudream(program, path, device):
    out = subprocess.run([program, "bench", "-m", path, "--device", device, "--json", "--runs", "1", "load"],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--cudream", default="build/release/bin/cudream")
    args = parser.parse_args()
    size = os.path.getsize(args.file)
    # A name without a slash would be looked up in the models folder.
    path = os.path.abspath(args.file)

    ways = {"copy": lambda: plain_copy(path), "cudream": lambda: cudream(args.cudream, path, args.device)["seconds"]}
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
        ways["safetensors"] = lambda: python_safetensors(path, args.device)
    except ImportError as missing:
        print(json.dumps({"left_out": "safetensors", "why": str(missing)}))
    plain_copy(path)
    seconds = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, measure in ways.items():
            if args.cold:
                drop(path)
            seconds[way].append(measure())
            print(json.dumps({"way": way, "seconds": round(seconds[way][-1], 4)}), flush=True)
    for way, all_seconds in seconds.items():
        median = statistics.median(all_seconds)
        print(json.dumps({"way": way, "median_s": round(median, 4), "least_s": round(min(all_seconds), 4),
                          "most_s": round(max(all_seconds), 4), "gb_per_s": round(size / median / 1e9, 2)}))


if __name__ == "__main__":
    main()
