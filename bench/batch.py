#!/usr/bin/env python3
"""Pictures a minute of `cudream batch` against one `cudream generate` a picture, whose pictures must be equal, and against peers, in
interleaved rounds.

Usage: bench/batch.py [--pictures 16] [--rounds 3] [--batches 1,4] [--model demo] [--size 128] [--steps 20] [--guidance 5]
                      [--diffusers FOLDER] [--sd-cli PROGRAM --checkpoint FILE]

Every system makes pictures of the same prompts, size, steps (Euler) and guidance on two threads. Times include starting the program
and loading the model, as people wait for both; diffusers (batch_diffusers.py, bf16) makes all in one process, stable-diffusion.cpp
takes a command for each prompt. Result as JSON."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PROMPTS = ["a red house under a full moon", "a sailboat with a white sail at sunset on a calm sea", "a green tree on a hill at noon",
           "a blue house beside a lake in the morning"]


def timed(*command):
    begun = time.monotonic()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, OMP_NUM_THREADS="2"))
    return time.monotonic() - begun


class Race:
    def __init__(self, a, folder):
        self.a, self.folder = a, folder
        self.items = [(PROMPTS[i % len(PROMPTS)], i) for i in range(a.pictures)]
        self.file = folder / "items.jsonl"
        self.file.write_text("".join(json.dumps({"prompt": prompt, "seed": seed}) + "\n" for prompt, seed in self.items))
        self.ours = ["-m", a.model, "-W", a.size, "-H", a.size, "--steps", a.steps, "--guidance", a.guidance, "--sampler", "euler",
                     "--threads", 2, "--quiet"]

    def one_by_one(self, out):
        out.mkdir()
        return sum(timed(self.a.program, "generate", prompt, "--seed", seed, "-o", out / f"{seed + 1:05}-{seed}.png", *self.ours)
                   for prompt, seed in self.items)

    def batch(self, size):
        return lambda out: timed(self.a.program, "batch", self.file, "-o", out, "--batch", size, *self.ours)

    def diffusers(self, out):
        return timed(sys.executable, pathlib.Path(__file__).with_name("batch_diffusers.py"), self.a.diffusers, self.file, out,
                     self.a.size, self.a.steps, self.a.guidance)

    def sd_cli(self, out):
        out.mkdir()
        return sum(timed(self.a.sd_cli, "-m", self.a.checkpoint, "-p", prompt, "-s", seed, "-W", self.a.size, "-H", self.a.size, "-t", 2,
                         "--steps", self.a.steps, "--cfg-scale", self.a.guidance, "--sampling-method", "euler", "-o", out / f"{seed}.png")
                   for prompt, seed in self.items)

    def ways(self):
        ways = {"generate": self.one_by_one} | {f"batch --batch {n}": self.batch(n) for n in self.a.batches.split(",")}
        if self.a.diffusers:
            ways["diffusers"] = self.diffusers
        if self.a.sd_cli:
            ways["stable-diffusion.cpp"] = self.sd_cli
        return ways


def require_equal(alone, together):
    for picture in alone.iterdir():
        if picture.read_bytes() != (together / picture.name).read_bytes():
            raise SystemExit(f"{picture.name} of {together.name} is not the picture made alone")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--program", default="build/release/bin/cudream")
    parser.add_argument("--model", "-m", default="demo")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--diffusers", help="the same model as a diffusers folder")
    parser.add_argument("--sd-cli", help="the program of stable-diffusion.cpp")
    parser.add_argument("--checkpoint", help="the same model as a file, for it")
    a = parser.parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        race = Race(a, pathlib.Path(name))
        for round in range(a.rounds):
            for way, run in race.ways().items():
                out = race.folder / f"{way.replace(' ', '')}-{round}"
                seconds.setdefault(way, []).append(run(out))
                if way.startswith("batch"):
                    require_equal(race.folder / f"generate-{round}", out)
    per_minute = {way: 60 * a.pictures / statistics.median(times) for way, times in seconds.items()}
    print(json.dumps({"pictures": a.pictures, "seconds": seconds, "pictures_per_minute": per_minute,
                      "times_generate": {way: rate / per_minute["generate"] for way, rate in per_minute.items()}}, indent=1))


if __name__ == "__main__":
    main()
