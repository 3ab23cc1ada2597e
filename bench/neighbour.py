#!/usr/bin/env python3
"""How a denoising step fares beside busy neighbours: its time with 0, 1 and 2 other processes that never rest.

  python3 bench/neighbour.py [--program build/release/bin/cudream] [--size 256] [--rounds 3]

A fair share of C processors with n neighbours is at best C/(C+n) of them, so the step should take about (C+n)/C times as long;
a team of threads that waits for its slowest member in a spin loses more. Prints the median and the spread over interleaved rounds.
"""
import argparse
import json
import os
import statistics
import subprocess


def step_seconds(program, size):
    out = subprocess.run([program, "bench", "--random", "sd15", "--size", str(size), "--steps", "3", "--runs", "1", "--json"],
                         check=True, capture_output=True, text=True).stdout
    return next(s["median_s"] for s in json.loads(out)["stages"] if s["stage"] == "unet step")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/bin/cudream")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    processors = len(os.sched_getaffinity(0))
    times = {n: [] for n in (0, 1, 2)}
    for _ in range(a.rounds):
        for n, taken in times.items():
            busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(n)]
            try:
                taken.append(step_seconds(a.program, a.size))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
    alone = statistics.median(times[0])
    print(f"{processors} processors, {a.size}x{a.size}, seconds a step")
    for n, taken in times.items():
        median = statistics.median(taken)
        print(f"{n} neighbours: {median:.3f} ({min(taken):.3f} to {max(taken):.3f}), {median / alone:.2f} times alone, "
              f"fair {(processors + n) / processors:.2f}")


if __name__ == "__main__":
    main()
