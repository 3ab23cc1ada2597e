#!/usr/bin/env python3
"""Whether a long batch keeps its memory: resident memory of the process against pictures made, and the slope of a line through it.

Usage: bench/soak.py [--pictures 1000] [--batch 4] [--model demo] [--program build/release/bin/cudream] [cudream batch options]

Pictures are small and have few steps: what is looked for is memory lost with every picture, and that does not depend on size. Items
differ in prompt, length of the prompt, guidance, steps and seed. The first third is left out of the line, and so is the end, when memory
is given back. Exit status 1 above --most."""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

UNWRITTEN = 20  # at most so many pictures are made but not written: when the last ones are written, the model is gone
WORDS = ["a red house", "a sailboat at sunset", "a tree on a hill, noon", "birds over the sea", "a blue house and a lake " + "in the rain " * 30]


def resident_mb(process):
    """Of the process's own memory; pages of mapped files come and go with the page cache."""
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return None


def slope(points):
    """Least squares: MB a picture, and its standard error."""
    fit = statistics.linear_regression(*zip(*points))
    residuals = [y - fit.slope * x - fit.intercept for x, y in points]
    xs = [x for x, _ in points]
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    error = (sum(r * r for r in residuals) / (len(points) - 2) / spread) ** 0.5
    return fit.slope, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--program", default="build/release/bin/cudream")
    parser.add_argument("--most", type=float, default=2, help="MB that 1000 pictures may add")
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        items = pathlib.Path(folder, "items.jsonl")
        items.write_text("".join(json.dumps({"prompt": WORDS[i % len(WORDS)], "seed": i, "guidance": 1 + i % 7, "steps": 1 + i % 2}) + "\n"
                                 for i in range(arguments.pictures)))
        status = pathlib.Path(folder, "out", ".batch", "status.json")
        begun = time.monotonic()
        process = subprocess.Popen([arguments.program, "batch", str(items), "-o", str(status.parents[1]), "-m", arguments.model, "--width", "64",
                                    "--height", "64", "--batch", str(arguments.batch), "--quiet", *more])
        points = []
        while process.poll() is None:
            time.sleep(0.2)
            try:
                done, memory = json.loads(status.read_text())["done"], resident_mb(process.pid)
            except (OSError, ValueError):
                continue
            if memory is not None and arguments.pictures / 3 < done < arguments.pictures - UNWRITTEN:
                points.append((done, memory))
        seconds = time.monotonic() - begun
        done = len(list(status.parents[1].glob("*.png")))
    if process.returncode != 0 or done != arguments.pictures or len(points) < 10:
        raise SystemExit(f"exit status {process.returncode}, {done} pictures, {len(points)} samples")
    per_picture, error = slope(points)
    print(f"{done} pictures in {seconds:.0f} s, {60 * done / seconds:.0f} a minute; memory {points[0][1]:.1f} MB after {points[0][0]}, "
          f"{points[-1][1]:.1f} MB after {points[-1][0]} (least {min(m for _, m in points):.1f}, most {max(m for _, m in points):.1f}); "
          f"slope {1000 * per_picture:+.3f} +- {1000 * error:.3f} MB per 1000 pictures ({len(points)} samples)")
    if 1000 * per_picture > arguments.most:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
