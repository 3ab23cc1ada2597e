"""Times cudream and its peers in interleaved rounds, and prints medians, spreads and ratios.

    race.py FOLDER [--size 512] [--rounds 5] [--systems openvino,torch] [--threads 2]
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CUDREAM = os.path.join(HERE, "../../build/release/bin/cudream")
STAGES = {"unet": "unet step", "decoder": "decode"}


class Peer:
    """A peer process that runs only while it is asked."""

    def __init__(self, system, folder, threads):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "peer.py"), system, folder, str(threads)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def time(self, part, size):
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.stdin.write(f"{part} {size}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        os.kill(self.process.pid, signal.SIGSTOP)
        return answer

    def end(self):
        self.process.kill()


def time_cudream(size, threads):
    """Seconds of every stage in one run of two steps, after the program's own warm-up."""
    out = subprocess.run([CUDREAM, "bench", "--random", "sd15", "--size", str(size), "--steps", "2", "--runs", "1", "--threads", str(threads),
                          "--json"], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    result = json.loads(out)
    stages = {stage["stage"]: stage["median_s"] for stage in result["stages"]}
    return {part: {"s": stages[stage], "cpu_s": stages[stage] * result["cores_used"], "peak_mb": result["peak_memory_mb"]}
            for part, stage in STAGES.items()}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--systems", default="openvino")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options = options.parse_args()

    systems = options.systems.split(",")
    peers = {(part, system): Peer(system, options.folder, options.threads) for part in STAGES for system in systems}
    for (part, _), peer in peers.items():
        peer.time(part, options.size)  # warm-up: compiles, packs weights
    times = {}
    for number in range(options.rounds):
        for (part, system), peer in peers.items():
            times.setdefault((part, system), []).append(peer.time(part, options.size))
        for part, run in time_cudream(options.size, options.threads).items():
            times.setdefault((part, "cudream"), []).append(run)
        print(f"round {number + 1}", {" ".join(key): round(runs[-1]["s"], 3) for key, runs in times.items()}, file=sys.stderr)
    for peer in peers.values():
        peer.end()

    print(f"{'part':<9}{'system':<10}{'median s':>10}{'least':>9}{'most':>9}{'cpu s':>9}{'peak MB':>9}{'ratio':>8}")
    for (part, system), runs in times.items():
        seconds = [run["s"] for run in runs]
        ours = statistics.median(run["s"] for run in times[part, "cudream"])
        print(f"{part:<9}{system:<10}{statistics.median(seconds):>10.3f}{min(seconds):>9.3f}{max(seconds):>9.3f}"
              f"{statistics.median(run['cpu_s'] for run in runs):>9.2f}{max(run['peak_mb'] for run in runs):>9.0f}"
              f"{statistics.median(seconds) / ours:>8.2f}")


if __name__ == "__main__":
    main()
