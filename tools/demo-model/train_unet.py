"""Step 2: the text encoder and the UNet, trained together on the latents of step 1.

  python train_unet.py text  --data data --out run --steps 300      warm start of the text encoder (optional)
  torchrun --nproc-per-node 2 train_unet.py train --data data --out run --minutes 60
                                                                    continues from run/state.pt where there is one
  python export.py --unpack demo.safetensors --tokenizer TOKENIZER --run run --vae vae      a run that begins with published weights
  python train_unet.py text --data data --out run --keep            then: the reader alone, beside that text encoder

The warm start teaches the text encoder to tell from the caption what is in the picture (no pictures used).
"""
import argparse
import copy
import gzip
import json
import os
import random
import re
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import fastops
import scenes

TEXT = dict(vocab_size=49408, hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=77, projection_dim=128, hidden_act="quick_gelu",
            bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
UNET = dict(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(64, 96, 96, 96), layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=128, attention_head_dim=8, norm_num_groups=32, use_linear_projection=False)
BETAS = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
ALPHA = torch.cumprod(1 - BETAS, 0)                       # share of signal left at each of the 1000 steps


def make_tokenizer(bpe_file, out):
    """CLIP's tokenizer from its list of merges (bpe_simple_vocab_16e6.txt.gz)."""
    lines = gzip.open(bpe_file, "rt", encoding="utf-8").read().split("\n")[1:49152 - 256 - 2 + 1]
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars = [chr(b) for b in keep] + [chr(256 + i) for i in range(256 - len(keep))]
    words = chars + [c + "</w>" for c in chars] + [l.replace(" ", "") for l in lines] + ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(out, exist_ok=True)
    json.dump({w: i for i, w in enumerate(words)}, open(f"{out}/vocab.json", "w", encoding="utf-8"), ensure_ascii=False)
    open(f"{out}/merges.txt", "w", encoding="utf-8").write("#version: 0.2\n" + "\n".join(lines) + "\n")
    json.dump({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "add_prefix_space": False, "do_lower_case": True,
               "errors": "replace", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
               "unk_token": "<|endoftext|>"}, open(f"{out}/tokenizer_config.json", "w"), indent=1)
    json.dump({"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
              open(f"{out}/special_tokens_map.json", "w"), indent=1)


class Captions:
    """Texts to token ids, with a cache of word pieces (a caption is a new random wording every time)."""

    def __init__(self, folder):
        self.tok, self.cache = CLIPTokenizer.from_pretrained(folder), {}

    def pieces(self, text):
        seq = [49406]
        for w in text.replace(",", " ,").split():
            if w not in self.cache:
                self.cache[w] = self.tok(w, add_special_tokens=False).input_ids
            seq += self.cache[w]
        return seq

    def __call__(self, texts):
        ids = torch.full((len(texts), 77), 49407)
        for row, t in zip(ids, texts):
            seq = self.pieces(t)
            row[:len(seq)] = torch.tensor(seq)
        return ids


def new_models():
    torch.manual_seed(0)
    text, unet = CLIPTextModel(CLIPTextConfig(**TEXT)), UNet2DConditionModel(**UNET)
    for n, m in unet.named_modules():                     # residual branches start at zero
        if n.endswith(("conv2", "proj_out", "conv_out")):
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)
    return text, unet


def shrink(text, ids):
    """Keeps only the embedding rows of `ids` while training (captions use some hundred of the 49408 pieces)."""
    full = text.get_input_embeddings().weight.detach().clone()
    small = nn.Embedding(len(ids), full.shape[1])
    small.weight.data = full[ids]
    text.set_input_embeddings(small)
    index = torch.zeros(len(full), dtype=torch.long)
    index[ids] = torch.arange(len(ids))
    return full, index


@torch.no_grad()
def orthogonal(m):
    """Nearest (semi-)orthogonal matrices of a stack, roughly: five Newton-Schulz steps as in the Muon optimizer."""
    flip = m.shape[1] > m.shape[2]
    x = (m.mT if flip else m).bfloat16().contiguous()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        g = torch.bmm(x, x.mT)
        g = torch.baddbmm(g, g, g, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, g, x, beta=3.4445)
    return (x.mT if flip else x).float()


class Mixed:
    """bf16 modules with float32 master weights, a moving average, and two optimizers: Muon for the inner matrices
    (convolutions seen as matrices), Adam for the rest. GroupNorm stays float32."""

    def __init__(self, modules, lr, muon=True):
        self.names, self.params = [], []
        for k, m in modules.items():
            m.bfloat16()
            for s in m.modules():
                if isinstance(s, nn.GroupNorm):
                    s.float()
            for n, p in m.named_parameters():
                self.names.append(f"{k}.{n}")
                self.params.append(p)
        self.master = [p.detach().float().clone(memory_format=torch.contiguous_format) for p in self.params]
        self.ema = [p.clone() for p in self.master]
        outer = ("embedding", "conv_in", "conv_out", "reader.")
        inner = [muon and p.dim() > 1 and not any(o in n for o in outer) for n, p in zip(self.names, self.master)]
        self.adam = [p for p, i in zip(self.master, inner) if not i]
        self.muon = [p for p, i in zip(self.master, inner) if i]
        self.momentum = [torch.zeros_like(p) for p in self.muon]
        self.stacks = {}                                  # matrices of one shape are worked on together
        for i, p in enumerate(self.muon):
            self.stacks.setdefault((p.shape[0], p[0].numel()), []).append(i)
        self.opt = torch.optim.AdamW(self.adam, lr=lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.step_no = 0

    def load_master(self, values):
        with torch.no_grad():
            for p, m, v in zip(self.params, self.master, values):
                m.copy_(v)
                p.copy_(v)

    @torch.no_grad()
    def step(self, lr, ema, *numbers):
        for p, m in zip(self.params, self.master):
            m.grad = torch.zeros_like(m) if p.grad is None else p.grad.float().contiguous()
            p.grad = None
        numbers = fastops.average([m.grad for m in self.master], *numbers)
        norm = nn.utils.clip_grad_norm_(self.master, 1.0)
        for g in self.opt.param_groups:
            g["lr"] = lr
        self.opt.step()
        for (rows, columns), group in self.stacks.items():
            for i in group:
                self.momentum[i].lerp_(self.muon[i].grad, 0.05)
            m = torch.stack([self.momentum[i].lerp(self.muon[i].grad, 0.05).view(rows, columns) for i in group])
            for i, o in zip(group, orthogonal(m) * (-0.2 * lr * max(rows, columns) ** 0.5)):   # Adam's usual size of step
                self.muon[i].mul_(1 - 0.03 * lr).add_(o.view_as(self.muon[i]))
        torch._foreach_copy_(self.params, self.master)
        self.step_no += 1
        torch._foreach_lerp_(self.ema, self.master, 1 - min(ema, (1 + self.step_no) / (10 + self.step_no)))
        return norm.item(), *numbers

    def state(self):
        return dict(names=self.names, master=self.master, ema=self.ema, opt=self.opt.state_dict(), momentum=self.momentum, step=self.step_no)

    def restore(self, s):
        self.load_master(s["master"])
        self.ema = [e.clone() for e in s["ema"]]
        self.opt.load_state_dict(s["opt"])
        self.momentum = [m.clone() for m in s["momentum"]]
        self.step_no = s["step"]


# ---------------------------------------------------------------- what the text encoder has to tell
def targets(s):
    """What a scene shows, as class numbers (0: not there)."""
    t = [scenes.TIMES.index(s["time"]), scenes.TERRAINS.index(s["terrain"]), ("none", "sun", "moon", "crescent").index(s["body"])]
    t += [int(s["clouds"]), int(s["stars"]), int(s["rainbow"])]
    for k in scenes.KINDS:
        o = next((o for o in s["objects"] if o["kind"] == k), None)
        t.append(0 if o is None else 1 + (list(scenes.COLORS).index(o["color"]) if "color" in o else o["count"] - 1))
    return t


SIZES = [4, 5, 4, 2, 2, 2] + [9 if k in scenes.COLORED else 4 for k in scenes.KINDS]
THINGS = ("sun", "moon", "crescent") + scenes.KINDS
WHOLE = SIZES + [4] * (1 + len(scenes.KINDS))             # of the caption: targets, then the named place of each thing (0: none)
PART = [len(THINGS), 1 + len(scenes.COLORS), 3, 4]        # of the words for one thing: which, color, number, named place


class Reader(nn.Module):
    """Reads from the text encoder's output what the caption says, which teaches the text encoder to say it: everything
    at the end of the caption, and each thing with its color, number and place at the last word about it."""

    def __init__(self):
        super().__init__()
        self.whole, self.part = nn.Linear(128, sum(WHOLE)), nn.Linear(128, sum(PART))

    def forward(self, hidden, ids, labels):
        """`labels` from `describe`, None for captions left out. Gives the loss and the share of captions read without a mistake."""
        rows = [i for i, l in enumerate(labels) if l is not None]
        end = (ids[rows] != 49407).sum(1)
        y = torch.tensor([labels[i][0] for i in rows])
        loss = 0
        for pos in (end, torch.full_like(end, ids.shape[1] - 1)):
            out = self.whole(hidden[rows, pos]).float().split(WHOLE, 1)
            loss = loss + sum(F.cross_entropy(o, y[:, i]) for i, o in enumerate(out)) / 2
        right = torch.stack([o.argmax(1) == y[:, i] for i, o in enumerate(out)]).all(0).float().mean().item()
        parts = [(i, *p) for i in rows for p in labels[i][1]]
        if parts:
            row, pos, *y = torch.tensor(parts).T
            loss = loss + sum(F.cross_entropy(o, t) for o, t in zip(self.part(hidden[row, pos]).float().split(PART, 1), y))
        return loss, right


def describe(s, cap, rng):
    """A caption for a scene, and its labels for the reader."""
    told = {}
    text = scenes.plain_caption(s, told) if rng.random() < 0.2 else scenes.caption(s, rng, 0.75, told)
    place = {"body": s["body_pos"], **{o["kind"]: o["pos"] for o in s["objects"]}}
    named = {k: 1 + scenes.POSITIONS.index(place[k]) for k, (_, n) in told.items() if n}
    whole = targets(s) + [named.get(k, 0) for k in ("body", *scenes.KINDS)]
    parts = []
    for k, (words, _) in told.items():
        at = re.search(rf"\b{re.escape(words)}\b", text).end()
        o = next((o for o in s["objects"] if o["kind"] == k), {})
        parts.append((len(cap.pieces(text[:at])) - 1, THINGS.index(s["body"] if k == "body" else k),
                      1 + list(scenes.COLORS).index(o["color"]) if "color" in o else 0, o.get("count", 1) - 1, named.get(k, 0)))
    return text, (whole, parts)


def warm_text(a):
    """From run/text.safetensors where there is one; what that encoder said about a caption is then kept as far as possible, or,
    with --keep, altogether: then only the reader learns."""
    records = json.load(open(f"{a.data}/records.json"))
    text, _ = new_models()
    reader, before = Reader(), None
    if os.path.exists(f"{a.out}/text.safetensors"):
        text.load_state_dict(load_file(f"{a.out}/text.safetensors"))
        before = copy.deepcopy(text).requires_grad_(False)
    cap, rng, t0 = Captions(f"{a.out}/tokenizer"), random.Random(3), time.time()
    text.requires_grad_(not a.keep)
    opt = torch.optim.AdamW([p for p in (*text.parameters(), *reader.parameters()) if p.requires_grad], lr=1e-3, fused=True)
    for step in range(1, a.steps + 1):
        texts, labels = zip(*[describe(rng.choice(records), cap, rng) for _ in range(a.batch)])
        ids = cap(texts)
        ids = ids[:, :(ids != 49407).sum(1).max() + 2]    # up to one pad after the longest caption
        with torch.autocast("cpu", torch.bfloat16):
            h = text(ids).last_hidden_state
            kept = 0 if before is None else F.mse_loss(h.float(), before(ids).last_hidden_state.float())
        loss, right = reader(h.float(), ids, labels)
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, step / 30) * max(0.1, 1 - step / a.steps)
        opt.zero_grad()
        (loss + 2 * kept).backward()
        nn.utils.clip_grad_norm_(text.parameters(), 1.0)
        opt.step()
        if step % 20 == 0:
            print(f"text step {step} loss {loss.item():.3f} changed {0 if before is None else kept.item():.3f} whole caption right {right:.2f} t {time.time() - t0:.0f}s", flush=True)
    save_file({k: v.contiguous() for k, v in text.state_dict().items()}, f"{a.out}/text.safetensors")
    save_file(reader.state_dict(), f"{a.out}/reader.safetensors")


# ---------------------------------------------------------------- diffusion
def weights(gamma=5):
    """Weights of the noise loss at each step. On the side of little noise they are min-SNR's. With much noise, where it is
    decided what stands where, an even weight would be one of SNR for the picture, and places are then hardly ever learned;
    there it grows with 1 / sqrt(SNR)."""
    snr = ALPHA / (1 - ALPHA)
    return torch.where(snr > 1, snr.clamp(max=gamma) / snr, snr ** -0.5)


def train(a):
    rank = fastops.connect()
    records = json.load(open(f"{a.data}/records.json"))
    latents = np.load(f"{a.data}/latents.npy", mmap_mode="r")
    (text, unet), reader = new_models(), Reader()
    for name, module in (("text", text), ("unet", unet), ("reader", reader)):
        if os.path.exists(f"{a.out}/{name}.safetensors"):
            module.load_state_dict(load_file(f"{a.out}/{name}.safetensors"))
    cap, rng = Captions(f"{a.out}/tokenizer"), random.Random(5)
    pieces = torch.unique(torch.cat([torch.tensor([49406, 49407]), cap([scenes.caption(rng.choice(records), rng) for _ in range(8000)]).flatten()]))
    full, index = shrink(text, pieces)
    fastops.patch(unet, text)
    unet.to(memory_format=torch.channels_last)
    modules = {"text": text, "unet": unet, "reader": reader}
    run = Mixed(modules, a.lr, a.muon)
    if os.path.exists(f"{a.out}/state.pt"):
        run.restore(torch.load(f"{a.out}/state.pt", map_location="cpu"))
        print("continuing at step", run.step_no)
    seed = 1000 + 2 * run.step_no + rank
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    torch.manual_seed(seed)
    weight = weights()
    start = saved = time.time()
    first, losses, used = run.step_no, [], 0.0
    while used < 1:
        pick = np_rng.integers(0, len(latents), a.batch)
        texts, labels = zip(*[("", None) if rng.random() < 0.1 else describe(records[i], cap, rng) for i in pick])
        x = torch.from_numpy(latents[pick]).float()
        noise = torch.randn_like(x)
        t = ((torch.arange(a.batch) + torch.rand(a.batch)) * 1000 / a.batch).long()      # spread evenly over 0..999
        s = ALPHA[t].view(-1, 1, 1, 1)
        noisy = (s.sqrt() * x + (1 - s).sqrt() * noise).bfloat16().contiguous(memory_format=torch.channels_last)
        ids = cap(texts)
        ctx = text(index[ids]).last_hidden_state
        out = unet(noisy, t, ctx).sample.float()
        err = (out - noise).pow(2).mean((1, 2, 3))
        read, _ = reader(ctx, ids, labels)
        ((err * weight[t]).mean() + 0.01 * read).backward()
        lr = a.lr * min(1, (run.step_no + 1) / 100) * max(0.03, 1 - max(0, used - a.flat) / max(1e-9, 1 - a.flat))
        norm, used, *loss = run.step(lr, a.ema, (time.time() - start) / (60 * a.minutes), err.mean().item(),
                                     err[a.batch // 2:].mean().item(), read.item())
        losses.append(loss)
        if run.step_no % 50 == 0 and rank == 0:
            rate = (time.time() - start) / (run.step_no - first)
            mean = np.mean(losses[-50:], 0)
            print(f"step {run.step_no} loss {mean[0]:.4f} with much noise {mean[1]:.4f} text {mean[2]:.3f} grad {norm:.2f} lr {lr:.1e} "
                  f"{rate:.2f} s/step t {time.time() - start:.0f}s", flush=True)
        if rank == 0 and (time.time() - saved > 300 or used >= 1):
            save(run, modules, a.out, full, pieces)
            saved = time.time()


def save(run, modules, out, full, pieces):
    """The resumable state, and the averaged weights as modules."""
    torch.save(run.state(), f"{out}/state.tmp")
    os.replace(f"{out}/state.tmp", f"{out}/state.pt")
    ema = dict(zip(run.names, run.ema))
    for kind, module in modules.items():
        sd = {n: ema[f"{kind}.{n}"].contiguous() for n, _ in module.named_parameters()}
        if kind == "text":
            name = next(n for n in sd if n.endswith("token_embedding.weight"))
            sd[name] = full.index_copy(0, pieces, sd[name])
        save_file(sd, f"{out}/{kind}.tmp")
        os.replace(f"{out}/{kind}.tmp", f"{out}/{kind}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="cmd", required=True)
    p = sub.add_parser("tokenizer")
    p.add_argument("--bpe", required=True)
    p.add_argument("--out", default="run")
    p = sub.add_parser("text")
    p.add_argument("--data", default="data")
    p.add_argument("--out", default="run")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--keep", action="store_true", help="leave the text encoder as it is (with --lr 1e-2)")
    p = sub.add_parser("train")
    p.add_argument("--data", default="data")
    p.add_argument("--out", default="run")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--flat", type=float, default=0.4, help="share of the time before the rate starts to fall")
    p.add_argument("--ema", type=float, default=0.998)
    p.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True, help="Muon for the inner matrices; otherwise Adam for all")
    a = ap.parse_args()
    if a.cmd == "tokenizer":
        make_tokenizer(a.bpe, f"{a.out}/tokenizer")
    else:
        {"text": warm_text, "train": train}[a.cmd](a)
