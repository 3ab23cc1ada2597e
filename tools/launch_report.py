#!/usr/bin/env python3
"""What the virtual GPU counted of each kernel, as a table. Counted, not measured: no time in it is that of a card.

  python3 tools/launch_report.py --bench build/release [options of `cudream bench verbs`]
  python3 tools/launch_report.py launches.jsonl    of any program that ran with CUDREAM_VGPU_REPORT=launches.jsonl

us: the least time that the card's data sheet leaves for what was counted (tests/vgpu/check/roofline.h), and what binds it.
tensor: the share of it in which the tensor cores would work. insn/mma: warp instructions for each tensor instruction.
sectors: bytes of the 32-byte sectors touched for each byte asked for. passes: over the banks of shared memory, against the fewest.
"""
import collections
import json
import os
import subprocess
import sys
import tempfile


def ratio(part, whole, form):
    return format(part / whole, form) if whole else "-"


def bench_verbs(build, options):
    """Runs every verb of a small picture of the demo model on the virtual GPU of a build; prints the table of its launches."""
    with tempfile.TemporaryDirectory() as folder:
        launches = os.path.join(folder, "launches.jsonl")
        virtual = {"CUDREAM_LIBCUDA": os.path.join(build, "vgpu/libcuda.so.1"), "CUDREAM_VGPU_REPORT": launches}
        subprocess.run([os.path.join(build, "bin/cudream"), "bench", "-m", "demo", "--size", "64", "--steps", "1", "--runs", "1",
                        "--device", "cuda", *options, "verbs"], env={**os.environ, **virtual}, check=True, stdout=subprocess.DEVNULL)
        report(launches)


def report(path):
    total = collections.defaultdict(collections.Counter)
    with open(path) as lines:
        for launch in map(json.loads, lines):
            sums = total[launch["kernel"], launch["bound"]]
            sums["launches"] += 1
            for key in ("mma_flops", "shared_wavefronts", "shared_ideal"):
                sums[key] += launch[key]
            for way in ("read", "write"):
                sums["bytes"] += launch[f"global_{way}_bytes"]
                sums["sectors"] += launch[f"global_{way}_sectors"]
            sums["instructions"] += sum(launch["instructions"].values())
            sums["mma"] += launch["instructions"]["tensor"]
            sums["us"] += max(launch["roofline_us"].values())
            sums["tensor_us"] += launch["roofline_us"]["tensor"]
    every = sum(s["us"] for s in total.values())
    print(f"{'kernel':<34}{'bound':<8}{'launches':>9}{'us':>11}{'share':>8}{'tensor':>8}{'GFLOP':>9}{'insn/mma':>10}{'MB':>10}"
          f"{'sectors':>9}{'passes':>8}")
    for (kernel, bound), s in sorted(total.items(), key=lambda item: -item[1]["us"]):
        print(f"{kernel:<34}{bound:<8}{s['launches']:>9}{s['us']:>11.2f}{ratio(s['us'], every, '.1%'):>8}"
              f"{ratio(s['tensor_us'], s['us'], '.0%'):>8}{s['mma_flops'] / 1e9:>9.3f}{ratio(s['instructions'], s['mma'], '.2f'):>10}"
              f"{s['bytes'] / 1e6:>10.2f}{ratio(32 * s['sectors'], s['bytes'], '.2f'):>9}"
              f"{ratio(s['shared_wavefronts'], s['shared_ideal'], '.2f'):>8}")
    print(f"{sum(s['launches'] for s in total.values())} launches; at least {every:.1f} us by the data sheet")


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "--bench":
        bench_verbs(sys.argv[2], sys.argv[3:])
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        report(sys.argv[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
