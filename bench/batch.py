#!/usr/bin/env python3
"""Pictures a minute of `cudream batch` against one `cudream generate` a picture, in interleaved rounds; the pictures must be equal.

Usage: bench/batch.py [--pictures 16] [--rounds 3] [--batches 1,4] [--program build/release/bin/cudream] [options of both commands]
       bench/batch.py -m demo --steps 20
Times include starting the program and loading the model, as people wait for both. Result as JSON."""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

PROMPTS = ["a red house under a full moon", "a sailboat with a white sail at sunset on a calm sea", "a green tree on a hill at noon",
           "a blue house beside a lake in the morning"]


def timed(command):
    begun = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--program", default="build/release/bin/cudream")
    arguments, more = parser.parse_known_args()
    items = [(PROMPTS[i % len(PROMPTS)], i) for i in range(arguments.pictures)]
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        file = folder / "items.jsonl"
        file.write_text("".join(json.dumps({"prompt": prompt, "seed": seed}) + "\n" for prompt, seed in items))
        for round in range(arguments.rounds):
            alone = folder / f"alone-{round}"
            alone.mkdir()
            seconds.setdefault("generate", []).append(sum(
                timed([arguments.program, "generate", prompt, "--seed", str(seed), "-o", str(alone / f"{seed + 1:05}-{seed}.png"), "--quiet", *more])
                for prompt, seed in items))
            for batch in arguments.batches.split(","):
                made = folder / f"batch-{batch}-{round}"
                seconds.setdefault(f"batch --batch {batch}", []).append(
                    timed([arguments.program, "batch", str(file), "-o", str(made), "--batch", batch, "--quiet", *more]))
                for picture in alone.iterdir():
                    if picture.read_bytes() != (made / picture.name).read_bytes():
                        raise SystemExit(f"{picture.name} of {made.name} is not the picture made alone")
    per_minute = {way: 60 * arguments.pictures / statistics.median(times) for way, times in seconds.items()}
    print(json.dumps({"pictures": arguments.pictures, "seconds": seconds, "pictures_per_minute": per_minute,
                      "times_generate": {way: rate / per_minute["generate"] for way, rate in per_minute.items()}}, indent=1))


if __name__ == "__main__":
    main()
