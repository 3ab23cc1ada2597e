"""Step 4: how well pictures follow their prompts.

  python evaluate.py judge   --data data                       trains a small classifier on drawn scenes (judge.safetensors)
  python evaluate.py prompts --out prompts.json                100 scenes whose attribute combination was not trained on
  python evaluate.py measure --model diffusers --prompts prompts.json
  python evaluate.py sheet   --model diffusers --out samples.png
"""
import argparse
import json
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import fastops
import painting
import scenes
from train_unet import SIZES, targets

COLOR_KINDS = [i for i, k in enumerate(scenes.KINDS) if k in scenes.COLORED]
SHEET = ["a red house and two pine trees under a full moon at night, green hills", "a sailboat with an orange sail at sunset, calm sea",
         "snowy mountains, a windmill, night, stars", "a green hot air balloon over the desert with a cactus during the day",
         "a lighthouse on the left on a beach in a storm", "a blue house in the center in front of snowy mountains at sunset",
         "three palm trees on the right on a sandy beach on a sunny day", "a purple sailboat on the left on the sea at night with a crescent moon",
         "a yellow house on the left and a tree on the right in green meadows during the day with a rainbow", "two cacti in the desert at night with a full moon and stars",
         "a white hot air balloon on the right, snowy mountains, clouds, day", "a windmill in the center on rolling hills at sunset with the sun on the left",
         "a pink house and three trees in a thunderstorm, green hills", "a lighthouse and a red sailboat on the ocean, day, the sun on the left",
         "a desert at sunset", "two pine trees below mountains in the daytime with clouds"]


class Judge(nn.Module):
    """Reads from a 128x128 picture what is in it: the classes of train_unet.targets, and places."""

    def __init__(self):
        super().__init__()
        c = lambda i, o: [nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()]
        self.net = nn.Sequential(*c(3, 24), *c(24, 48), *c(48, 96), *c(96, 96), nn.Flatten(), nn.Linear(96 * 64, 256), nn.ReLU())
        self.what = nn.Linear(256, sum(SIZES))
        self.where = nn.Linear(256, 3 * (1 + len(scenes.KINDS)))

    def forward(self, x):
        h = self.net(x)
        return self.what(h).split(SIZES, 1), self.where(h).view(len(x), -1, 3)


def places(s):
    """Place of the celestial body and of each kind of object: 0 left, 1 center, 2 right, -100 not there."""
    p = [scenes.POSITIONS.index(s["body_pos"]) if s["body"] != "none" else -100]
    for k in scenes.KINDS:
        o = next((o for o in s["objects"] if o["kind"] == k), None)
        p.append(-100 if o is None else scenes.POSITIONS.index(o["pos"]))
    return p


def tensor(pics):
    return torch.from_numpy(np.array(pics)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_judge(a):
    """Drawn scenes, blurred and noised a little so that the judge is not thrown by an imperfect picture."""
    torch.manual_seed(0)
    pics, records = np.load(f"{a.data}/pictures.npy", mmap_mode="r"), json.load(open(f"{a.data}/records.json"))
    y, w = torch.tensor([targets(s) for s in records]), torch.tensor([places(s) for s in records])
    judge, rng, t0 = Judge(), np.random.default_rng(0), time.time()
    opt = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)
    for step in range(1, a.steps + 1):
        i = np.sort(rng.integers(0, len(pics) - 500, 48))
        x = tensor(pics[i])
        x = x + (F.avg_pool2d(x, 3, 1, 1) - x) * torch.rand(len(x), 1, 1, 1)
        x = (x + torch.randn_like(x) * 0.08 * torch.rand(len(x), 1, 1, 1)) * (0.9 + 0.2 * torch.rand(len(x), 1, 1, 1))
        with torch.autocast("cpu", torch.bfloat16):
            what, where = judge(x)
        loss = sum(F.cross_entropy(o.float(), y[i][:, j]) for j, o in enumerate(what)) + F.cross_entropy(where.float().flatten(0, 1), w[i].flatten())
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, step / 30) * max(0.02, 1 - step / a.steps)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 100 == 0:
            print(f"judge step {step} loss {loss.item():.3f} t {time.time() - t0:.0f}s", flush=True)
    judge.eval()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}, a.judge)
    print("on 500 drawn scenes it was not trained on:", report(judge, pics[-500:], records[-500:]))


@torch.no_grad()
def report(judge, pics, records):
    """Share of right answers for each attribute that a prompt names."""
    what, where = judge(tensor(pics))
    what, where = torch.stack([o.argmax(1) for o in what], 1), where.argmax(2)
    hits = {k: [] for k in ("time", "terrain", "sun or moon", "object there", "color", "count", "place", "nothing extra", "all objects and colors", "all")}
    for s, g, p in zip(records, what.tolist(), where.tolist()):
        t, pl = targets(s), places(s)
        ok = [g[0] == t[0], g[1] == t[1], g[2] == t[2]]
        for k, v in zip(("time", "terrain", "sun or moon"), ok):
            hits[k].append(v)
        good = True
        for j, kind in enumerate(scenes.KINDS):
            want, got = t[6 + j], g[6 + j]
            if not want:
                continue
            hits["object there"].append(got > 0)
            hits["color" if kind in scenes.COLORED else "count"].append(got == want)
            hits["place"].append(got > 0 and p[1 + j] == pl[1 + j])
            good &= got == want or (kind not in scenes.COLORED and got > 0)
        extra = any(g[6 + j] and not t[6 + j] for j in range(len(scenes.KINDS)))
        hits["nothing extra"].append(not extra)
        hits["all objects and colors"].append(good)
        hits["all"].append(good and all(ok))
    return {k: f"{100 * np.mean(v):.0f}% of {len(v)}" for k, v in hits.items() if v}


def write_prompts(a):
    """Held-out scenes with their prompt and simple color probes (boxes in unit coordinates, y down)."""
    rng, items = random.Random(2024), []
    while len(items) < a.count:
        s = scenes.random_scene(rng)
        if not scenes.held_out(s) or not s["objects"]:
            continue
        light = painting.LIGHT[s["time"]]
        probes = [dict(what="sky at the top", box=[0, 0, 1, 0.05], color=[round(v, 3) for v in painting.SKY[s["time"]][0]])]
        for o in s["objects"]:
            if "color" in o:
                x = scenes.POS_X[o["pos"]]
                y0, y1 = (0.08, 0.45) if o["kind"] == "balloon" else (0.35, 0.95)
                lit = [v * (l + (1 - l) * 0.45) for v, l in zip(scenes.COLORS[o["color"]], light)]
                probes.append(dict(what=f"{o['color']} {o['kind']}", box=[round(max(0, x - 0.17), 2), y0, round(min(1, x + 0.17), 2), y1],
                                   color=[round(v, 3) for v in lit], min_share=0.03, max_distance=0.2))
        items.append(dict(prompt=scenes.plain_caption(s), seed=len(items), record=s, probes=probes))
    json.dump(dict(note="Prompts whose attribute combination the demo model was not trained on. A probe passes when at least min_share of the pixels in "
                        "its box lie within max_distance (Euclidean, RGB 0..1) of its color; the sky probe compares the mean color of its box (0.2).",
                   width=128, height=128, steps=20, guidance=6.0, items=items), open(a.out, "w"), indent=1)


def probe_ok(pic, p):
    h, w = pic.shape[:2]
    x0, y0, x1, y1 = (int(round(v * n)) for v, n in zip(p["box"], (w, h, w, h)))
    box = pic[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)].reshape(-1, 3) / 255.0
    if "min_share" not in p:
        return np.linalg.norm(box.mean(0) - p["color"]) < 0.2
    return (np.linalg.norm(box - p["color"], axis=1) < p["max_distance"]).mean() >= p["min_share"]


def generate(a, prompts, seeds):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
    from export import load_folder
    pipe = load_folder(a.model)
    if a.fast:
        fastops.patch(pipe.unet)
        exact = pipe.unet.forward

        def forward(*x, **k):
            with torch.autocast("cpu", torch.bfloat16):
                return tuple(t.float() for t in exact(*x, **k))
        pipe.unet.forward = forward
    pipe.scheduler = (DPMSolverMultistepScheduler if a.sampler == "dpm++" else DDIMScheduler).from_config(pipe.scheduler.config)
    pics = []
    for i in range(0, len(prompts), 10):
        noise = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds[i:i + 10]])
        out = pipe(prompts[i:i + 10], num_inference_steps=a.steps, guidance_scale=a.guidance, height=128, width=128, latents=noise, output_type="np").images
        pics.append((out * 255).round().astype(np.uint8))
    return np.concatenate(pics)


def measure(a):
    d = json.load(open(a.prompts))
    items = d["items"][:a.count]
    pics = generate(a, [i["prompt"] for i in items], [i["seed"] for i in items])
    judge = Judge()
    judge.load_state_dict(load_file(a.judge))
    judge.eval()
    drawn = np.stack([painting.render(i["record"]) for i in items])
    for name, p in (("drawn", drawn), ("generated", pics)):
        print(f"{name}, judge:", report(judge, p, [i["record"] for i in items]))
        ok = [(pr["what"].split()[0] == "sky", probe_ok(x, pr)) for x, i in zip(p, items) for pr in i["probes"]]
        print(f"{name}, probes: sky {100 * np.mean([v for s, v in ok if s]):.0f}%, object color in place {100 * np.mean([v for s, v in ok if not s]):.0f}%")
    if a.out:
        sheet(pics, 10, a.out)


def sheet(pics, columns, path):
    from PIL import Image
    n, s = len(pics), pics.shape[1]
    im = Image.new("RGB", (columns * (s + 4), (n + columns - 1) // columns * (s + 4)), "white")
    for i, p in enumerate(pics):
        im.paste(Image.fromarray(p), (i % columns * (s + 4) + 2, i // columns * (s + 4) + 2))
    im.save(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("cmd", choices=("judge", "prompts", "measure", "sheet"))
    ap.add_argument("--data", default="data")
    ap.add_argument("--judge", default="judge.safetensors")
    ap.add_argument("--model", default="diffusers")
    ap.add_argument("--prompts", default="prompts.json")
    ap.add_argument("--out", default=None)
    ap.add_argument("--count", type=int, default=100)
    ap.add_argument("--steps", type=int, default=None)
    ap.add_argument("--guidance", type=float, default=6.0)
    ap.add_argument("--sampler", choices=("ddim", "dpm++"), default="ddim")
    ap.add_argument("--fast", action="store_true", help="bf16 and the loops of fastops: quicker, not quite the same pictures")
    a = ap.parse_args()
    a.steps = a.steps or (800 if a.cmd == "judge" else 20)
    if a.cmd == "sheet":
        sheet(generate(a, SHEET, list(range(len(SHEET)))), 4, a.out or "samples.png")
    else:
        {"judge": train_judge, "prompts": write_prompts, "measure": measure}[a.cmd](a)
