"""Fine-tunes of the text-to-image weights: filling in a masked part, and changing a picture on written instruction.

  torchrun --nproc-per-node 2 train_edit.py inpaint  --run run --vae vae --minutes 30     UNet input: latents 4, mask 1, masked picture 4
  torchrun --nproc-per-node 2 train_edit.py instruct --run run --vae vae --minutes 30     UNet input: latents 4, source picture 4
  python export.py --run run-inpaint --vae vae --out inpaint --kind inpaint
  python export.py --run run-instruct --vae vae --out instruct --kind instruct
"""
import argparse
import os
import random
import shutil
import time

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

import fastops
import painting
import scenes
from train_unet import ALPHA, TEXT, UNET, Captions, Mixed, save, shrink
from train_vae import to_tensor

KNOWN = 0.3     # weight of the loss where the picture is given: there is little to learn but to copy


def random_mask(rng, size=128):
    """1 where the picture is to be made: a box, an ellipse, or everything on one side (outpainting, most often of one half)."""
    m, kind = np.zeros((size, size), np.float32), rng.random()
    if kind < 0.4:
        m[:, :rng.choice((size // 2, rng.randrange(size // 4, 3 * size // 4)))] = 1
        m = rng.choice((m, m[:, ::-1], m.T, m.T[::-1]))
    elif kind < 0.43:
        m[:] = 1
    else:
        w, h = rng.randrange(size // 5, int(size * 0.7)), rng.randrange(size // 5, int(size * 0.7))
        x, y = rng.randrange(0, size - w), rng.randrange(0, size - h)
        if kind < 0.75:
            m[y:y + h, x:x + w] = 1
        else:
            yy, xx = np.mgrid[:size, :size]
            m[((xx - x - w / 2) / w) ** 2 + ((yy - y - h / 2) / h) ** 2 < 0.25] = 1
    return np.ascontiguousarray(m)


def random_edit(rng):
    """Two records of the same place and the instruction that leads from the first to the second."""
    while True:
        a = scenes.random_scene(rng)
        b = dict(a, objects=[dict(o) for o in a["objects"]])
        kind = rng.choice(("time", "color", "color", "remove", "sky", "stars", "swap"))
        if kind == "time":
            b["time"] = rng.choice([t for t in scenes.TIMES if t != a["time"]])
            b.update(body="none", stars=False, clouds=a["clouds"] and b["time"] in ("day", "sunset"), rainbow=a["rainbow"] and b["time"] == "day")
            if a["body"] != "none" and b["time"] != "storm":
                b["body"] = "moon" if b["time"] == "night" else "sun"
            if b["time"] == "storm":
                return a, b, rng.choice(("make it stormy", "turn it into a storm", "add a storm"))
            return a, b, rng.choice(("make it {}", "turn it into {}", "change the time to {}")).format(b["time"])
        colored = [o for o in b["objects"] if "color" in o]
        if kind == "color" and colored:
            o = rng.choice(colored)
            name = {"house": "house", "sailboat": rng.choice(("boat", "sailboat", "sail")), "balloon": rng.choice(("balloon", "hot air balloon"))}[o["kind"]]
            o["color"] = rng.choice([c for c in scenes.COLORS if c != o["color"]])
            return a, b, rng.choice(("make the {} {}", "turn the {} {}", "change the color of the {} to {}")).format(name, o["color"])
        if kind == "remove" and b["objects"]:
            o = b["objects"].pop(rng.randrange(len(b["objects"])))
            name = scenes.PLURAL[o["kind"]] if o["count"] > 1 else scenes.SINGULAR.get(o["kind"], o["kind"])
            pair = (a, b, f"remove the {name}")
            if rng.random() < 0.5:
                pair = (b, a, f"add {scenes.noun(o, rng)}" + (" " + scenes.where(o["pos"], rng) if rng.random() < 0.6 else ""))
            return pair
        if kind == "sky" and a["body"] == "none" and a["time"] != "storm":
            b["body"] = rng.choice(("moon", "crescent")) if a["time"] == "night" else "sun"
            name = {"moon": "full moon", "crescent": "crescent moon", "sun": "sun"}[b["body"]]
            return (a, b, f"add a {name}") if rng.random() < 0.6 else (b, a, f"remove the {name.split()[-1]}")
        if kind == "stars" and a["time"] == "night":
            b["stars"] = not a["stars"]
            return a, b, "add stars" if b["stars"] else "remove the stars"
        if kind == "swap" and b["objects"]:
            o = rng.choice(b["objects"])
            others = [k for k in set(scenes.PLACES[a["terrain"]]) if k not in [x["kind"] for x in b["objects"]]]
            if o["kind"] != "balloon" and others:
                old = scenes.PLURAL[o["kind"]] if o["count"] > 1 else o["kind"]
                o.update(kind=rng.choice(sorted(others)), count=1)
                o.pop("color", None)
                if o["kind"] in scenes.COLORED:
                    o["color"] = rng.choice(list(scenes.COLORS))
                return a, b, f"replace the {old} with {scenes.noun(o, rng)}"


@torch.no_grad()
def latents(vae, pics):
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(to_tensor(pics)).latent_dist.mean.float()


def batch(kind, n, vae, rng):
    """Target latents, the extra input channels, captions."""
    k = vae.config.scaling_factor
    if kind == "inpaint":
        records = [scenes.random_scene(rng) for _ in range(n)]
        pics = np.stack([painting.render(s) for s in records])
        masks = np.stack([random_mask(rng) for _ in range(n)])
        hidden = np.where(masks[..., None] > 0.5, 127.5, pics)
        z = latents(vae, np.concatenate([pics, hidden])) * k
        mask = torch.from_numpy(masks[:, None, ::8, ::8].copy())         # nearest, as the pipelines do
        return z[:n], torch.cat([mask, z[n:]], 1), ["" if rng.random() < 0.15 else scenes.caption(s, rng) for s in records]
    pairs = [random_edit(rng) for _ in range(n)]
    z = latents(vae, np.stack([painting.render(p[1]) for p in pairs] + [painting.render(p[0]) for p in pairs]))
    drop = torch.tensor([rng.random() for _ in pairs])                   # source alone, both, instruction alone left out
    source = z[n:] * (drop >= 0.10)[:, None, None, None]                 # the source latents are not scaled (InstructPix2Pix)
    return z[:n] * k, source, ["" if 0.05 <= d < 0.15 else p[2] for d, p in zip(drop, pairs)]


def train(a):
    rank, out = fastops.connect(), f"{a.run}-{a.kind}"
    text, unet = CLIPTextModel(CLIPTextConfig(**TEXT)), UNet2DConditionModel(**dict(UNET, in_channels=9 if a.kind == "inpaint" else 8))
    text.load_state_dict(load_file(f"{a.run}/text.safetensors"))
    w = load_file(f"{a.run}/unet.safetensors")
    w["conv_in.weight"] = torch.cat([w["conv_in.weight"], torch.zeros_like(unet.conv_in.weight[:, 4:])], 1)     # new channels start silent
    unet.load_state_dict(w)
    if rank == 0:
        os.makedirs(out, exist_ok=True)
        shutil.copytree(f"{a.run}/tokenizer", f"{out}/tokenizer", dirs_exist_ok=True)
    cap, rng = Captions(f"{a.run}/tokenizer"), random.Random(5)
    words = [random_edit(rng)[2] if a.kind == "instruct" else scenes.caption(scenes.random_scene(rng), rng) for _ in range(8000)]
    pieces = torch.unique(torch.cat([torch.tensor([49406, 49407]), cap(words).flatten()]))
    full, index = shrink(text, pieces)
    fastops.patch(unet)
    unet.to(memory_format=torch.channels_last)
    vae = AutoencoderKL.from_pretrained(a.vae).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    run = Mixed({"text": text, "unet": unet}, a.lr)
    if os.path.exists(f"{out}/state.pt"):
        run.restore(torch.load(f"{out}/state.pt", map_location="cpu"))
    rng = random.Random(7000 + 2 * run.step_no + rank)
    torch.manual_seed(7000 + 2 * run.step_no + rank)
    weight = (ALPHA / (1 - ALPHA)).clamp(max=5) / (ALPHA / (1 - ALPHA))
    start = saved = time.time()
    losses, used = [], 0.0
    while used < 1:
        x, extra, texts = batch(a.kind, a.batch, vae, rng)
        noise = torch.randn_like(x)
        t = ((torch.arange(a.batch) + torch.rand(a.batch)) * 1000 / a.batch).long()
        s = ALPHA[t].view(-1, 1, 1, 1)
        given = torch.cat([s.sqrt() * x + (1 - s).sqrt() * noise, extra], 1).bfloat16().contiguous(memory_format=torch.channels_last)
        err = (unet(given, t, text(index[cap(texts)]).last_hidden_state).sample.float() - noise).pow(2)
        if a.kind == "inpaint":
            err = err * (KNOWN + (1 - KNOWN) * extra[:, :1])
        err = err.mean((1, 2, 3))
        (err * weight[t]).mean().backward()
        lr = a.lr * min(1, (run.step_no + 1) / 50) * max(0.05, 1 - used)
        _, used, loss = run.step(lr, 0.995, (time.time() - start) / (60 * a.minutes), err.mean().item())
        losses.append(loss)
        if rank == 0 and (run.step_no % 20 == 0):
            print(f"{a.kind} step {run.step_no} loss {np.mean(losses[-20:]):.4f} t {time.time() - start:.0f}s", flush=True)
        if rank == 0 and (time.time() - saved > 300 or used >= 1):
            save(run, {"text": text, "unet": unet}, out, full, pieces)
            saved = time.time()


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("kind", choices=("inpaint", "instruct"))
    ap.add_argument("--run", default="run")
    ap.add_argument("--vae", default="vae")
    ap.add_argument("--minutes", type=float, default=30)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=5e-4)
    train(ap.parse_args())
