"""The items of a batch by diffusers, all in one process, each with its own seed; bench/batch.py times it.

    batch_diffusers.py MODEL-FOLDER ITEMS.jsonl OUTPUT SIZE STEPS GUIDANCE
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

folder, items, out, size, steps, guidance = sys.argv[1:]
torch.set_num_threads(2)
pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16, safety_checker=None, requires_safety_checker=False)
pipe.unet.to(memory_format=torch.channels_last)
pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
pathlib.Path(out).mkdir()
for line in pathlib.Path(items).read_text().splitlines():
    item = json.loads(line)
    made = pipe(item["prompt"], width=int(size), height=int(size), num_inference_steps=int(steps), guidance_scale=float(guidance),
                generator=torch.Generator().manual_seed(item["seed"]))
    made.images[0].save(f"{out}/{item['seed']}.png")
