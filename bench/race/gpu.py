"""Times cudream and PyTorch (diffusers' networks in half precision) on one GPU in interleaved rounds: medians, spreads, ratios.

    gpu.py [--network sd15|sdxl] [--size 512] [--rounds 3] [--compile] [--tune] [--cudream FILE]

PyTorch runs each network three ways: call by call ("eager"), as a CUDA graph, and with --compile through torch.compile as a CUDA
graph. Its time of a step is one call of the UNet for two guidance branches; cudream's contains sampler and guidance too. cudream
runs with kernels of its own alone, and with --tune also with NVIDIA's libraries where its --tune finds them faster
(CUDREAM_LIBCUBLASLT and CUDREAM_LIBCUDNN name them).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from diffusers import UNet2DConditionModel

from models import Decoder, Unet

HERE = os.path.dirname(os.path.abspath(__file__))
STAGES = {"unet": "unet step", "decoder": "decode"}
CALLS = 10  # of a network in a round


def unet(network):
    if network == "sd15":
        return Unet().net
    return UNet2DConditionModel(
        sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20), block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816)


def calls(network, size):
    """By part, the network and the arguments of its call."""
    side = size // 8
    half = {"device": "cuda", "dtype": torch.float16}
    parts = {}
    with torch.device("cuda"):
        torch.set_default_dtype(torch.float16)
        nets = {"unet": unet(network), "decoder": Decoder()}
        torch.set_default_dtype(torch.float32)
    width = 768 if network == "sd15" else 2048
    given = {"unet": ([torch.randn(2, 4, side, side, **half), torch.full((2,), 500.0, device="cuda"), torch.randn(2, 77, width, **half)],
                      {"return_dict": False}),
             "decoder": ([torch.randn(1, 4, side, side, **half)], {})}
    if network == "sdxl":
        given["unet"][1]["added_cond_kwargs"] = {"text_embeds": torch.randn(2, 1280, **half), "time_ids": torch.ones(2, 6, **half)}
    for part, net in nets.items():
        arguments, named = given[part]
        arguments[0] = arguments[0].contiguous(memory_format=torch.channels_last)
        parts[part] = net.eval().to(memory_format=torch.channels_last), arguments, named
    return parts


def as_graph(call):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def time_call(call):
    seconds = []
    for _ in range(CALLS):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


OWN = ["--gemm", "own", "--conv", "own", "--attention", "own"]


def bench(options, more, cache):
    """Seconds of each part in a run of cudream."""
    command = [options.cudream, "bench", "--random", options.network, "--size", str(options.size), "--steps", str(CALLS), "--runs", "2",
               "--device", "cuda", "--json", "--quiet", *more]
    out = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, "XDG_CACHE_HOME": cache}).stdout
    stages = {stage["stage"]: stage["median_s"] for stage in json.loads(out.strip().splitlines()[-1])["stages"]}
    return {part: stages[stage] for part, stage in STAGES.items()}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--network", choices=("sd15", "sdxl"), default="sd15")
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--compile", action="store_true")
    options.add_argument("--tune", action="store_true")
    options.add_argument("--cudream", default=os.path.join(HERE, "../../build/release/bin/cudream"))
    options = options.parse_args()

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    peers = {}
    for part, (net, arguments, named) in calls(options.network, options.size).items():
        def eager(net=net, arguments=arguments, named=named):
            return net(*arguments, **named)
        peers[part, "eager"] = eager
        peers[part, "graph"] = as_graph(eager)
        if options.compile:
            compiled = torch.compile(net)
            peers[part, "compiled"] = as_graph(lambda compiled=compiled, arguments=arguments, named=named: compiled(*arguments, **named))
    cache = tempfile.TemporaryDirectory()
    ours = {"cudream": OWN}
    if options.tune:
        bench(options, ["--tune"], cache.name)
        ours["tuned"] = []
    times = {}
    for number in range(options.rounds):
        for key, call in peers.items():
            times.setdefault(key, []).append(time_call(call))
        for system, more in ours.items():
            for part, seconds in bench(options, more, cache.name).items():
                times.setdefault((part, system), []).append(seconds)
        print(f"round {number + 1}", {" ".join(key): round(1e3 * runs[-1], 2) for key, runs in times.items()}, file=sys.stderr)

    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}; {options.network}, {options.size}x{options.size}, half precision")
    print(f"{'part':<9}{'system':<10}{'median ms':>10}{'least':>9}{'most':>9}{'ratio':>8}")
    for (part, system), runs in times.items():
        middle = statistics.median(runs)
        print(f"{part:<9}{system:<10}{1e3 * middle:>10.2f}{1e3 * min(runs):>9.2f}{1e3 * max(runs):>9.2f}"
              f"{middle / statistics.median(times[part, 'cudream']):>8.2f}")


if __name__ == "__main__":
    main()
