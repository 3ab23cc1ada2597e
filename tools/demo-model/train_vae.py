"""Step 1: pictures, then the autoencoder (AutoencoderKL, f8, 4 latent channels).

  python train_vae.py render --out data --count 24000
  torchrun --nproc-per-node 2 train_vae.py train --data data --out vae --minutes 18
  torchrun --nproc-per-node 2 train_vae.py encode --data data --vae vae        (writes data/latents.npy)
  torchrun --nproc-per-node 2 train_vae.py decoder --data data --vae vae --out vae_sharp --minutes 12
                                                       (any time later: sharper pictures from the same latents)
"""
import argparse
import json
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import fastops
import painting
import scenes

SIZE = 128
CONFIG = dict(in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=8, sample_size=SIZE,
              block_out_channels=(32, 32, 64, 96), layers_per_block=2, scaling_factor=0.18215,
              down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def render(a):
    """Draws `count` scenes that are not in the held-out set."""
    os.makedirs(a.out, exist_ok=True)
    rng, records = random.Random(a.seed), []
    pics = np.lib.format.open_memmap(f"{a.out}/pictures.npy", "w+", np.uint8, (a.count, SIZE, SIZE, 3))
    while len(records) < a.count:
        s = scenes.random_scene(rng)
        if not scenes.held_out(s):
            pics[len(records)] = painting.render(s, SIZE)
            records.append(s)
    json.dump(records, open(f"{a.out}/records.json", "w"))


def to_tensor(batch):
    return (torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1).to(memory_format=torch.channels_last)


def detail_loss(x, y):
    """L1 on the picture and on its differences with the neighbours, which keeps edges sharp."""
    dx = lambda t: t[..., 1:] - t[..., :-1]
    dy = lambda t: t[..., 1:, :] - t[..., :-1, :]
    return F.l1_loss(x, y) + 0.5 * (F.l1_loss(dx(x), dx(y)) + F.l1_loss(dy(x), dy(y))) + F.mse_loss(x, y)


def train(a):
    rank = fastops.connect()
    torch.manual_seed(0)
    fastops.patch()
    pics = np.load(f"{a.data}/pictures.npy", mmap_mode="r")
    vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    for n, m in vae.named_modules():                     # keep the signal's size; residual branches start at zero
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.normal_(m.weight, 0, m.weight[0].numel() ** -0.5)
            torch.nn.init.zeros_(m.bias)
        if n.endswith(("conv2", "to_out.0")):
            torch.nn.init.zeros_(m.weight)
            torch.nn.init.zeros_(m.bias)
    if os.path.exists(f"{a.out}/config.json"):
        vae = AutoencoderKL.from_pretrained(a.out).to(memory_format=torch.channels_last)
    live = list(vae.parameters())
    opt = torch.optim.AdamW(live, lr=a.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    rng, start, step, used = np.random.default_rng(int(time.time()) + rank), time.time(), 0, 0.0
    torch.manual_seed(rank)
    while used < 1:
        for g in opt.param_groups:                       # warm-up, then a straight line down to 5 %
            g["lr"] = a.lr * min(1, (step + 1) / 50) * max(0.05, 1 - used)
        crop = SIZE if used > 0.75 else 64  # cheap crops first, whole pictures at the end
        n = a.batch * (SIZE // crop) ** 2 // (2 if crop < SIZE else 1)
        batch = []
        for i in rng.integers(0, len(pics), n):
            y, x = rng.integers(0, SIZE - crop + 1, 2)
            batch.append(pics[i, y:y + crop, x:x + crop])
        x = to_tensor(batch)
        with torch.autocast("cpu", torch.bfloat16):
            post = vae.encode(x).latent_dist
            out = vae.decode(post.sample()).sample
        kl = 0.5 * (post.mean.float().pow(2) + post.var.float() - 1 - post.logvar.float()).mean()
        rec = detail_loss(out.float(), x)
        (rec + a.kl * kl).backward()
        used, = fastops.average([p.grad for p in live], (time.time() - start) / (60 * a.minutes))
        torch.nn.utils.clip_grad_norm_(live, 1.0)
        opt.step()
        opt.zero_grad()
        step += 1
        if step % 50 == 0 and rank == 0:
            l1 = F.l1_loss(out.detach().float(), x).item()
            print(f"step {step} t {time.time() - start:.0f}s cpu {time.process_time():.0f}s crop {crop} L1 {l1:.4f} loss {rec.item():.4f} kl {kl.item():.2f} "
                  f"noise {post.std.mean().item():.3f}", flush=True)
        if rank == 0 and (step % 200 == 0 or used >= 1):
            vae.save_pretrained(a.out)


class Critic(torch.nn.Module):
    """Tells drawn from decoded pictures, patch by patch. Gives its verdict and its features, which serve as a perceptual measure."""

    def __init__(self):
        super().__init__()
        c = lambda i, o, s: torch.nn.Conv2d(i, o, 4 if s == 2 else 3, s, 1)
        self.layers = torch.nn.ModuleList([c(3, 32, 2), c(32, 64, 2), c(64, 96, 1)])
        self.last = c(96, 1, 1)

    def forward(self, x):
        features = []
        for l in self.layers:
            x = F.leaky_relu(l(x), 0.2)
            features.append(x)
        return self.last(x).float(), features


def train_decoder(a):
    """Trains only the way back from latents (of data/latents.npy) to pictures, so that the latents stay valid. After a while
    a critic joins in, which asks for edges like those of the drawn pictures. The result is the moving average."""
    rank = fastops.connect()
    fastops.patch()
    torch.manual_seed(0)
    pics, latents = np.load(f"{a.data}/pictures.npy", mmap_mode="r"), np.load(f"{a.data}/latents.npy", mmap_mode="r")
    vae, critic = AutoencoderKL.from_pretrained(a.vae).to(memory_format=torch.channels_last), Critic().to(memory_format=torch.channels_last)
    live, judging = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()], list(critic.parameters())
    average = [p.detach().clone() for p in live]
    opt = torch.optim.AdamW(live, lr=a.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    critic_opt = torch.optim.AdamW(judging, lr=5e-4, betas=(0.5, 0.99), weight_decay=1e-4, fused=True)
    rng, start, step, used = np.random.default_rng(int(time.time()) + rank), time.time(), 0, 0.0
    torch.manual_seed(int(time.time()) + rank)
    while used < 1:
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 50) * max(0.05, 1 - used)
        pick = rng.integers(0, len(pics), a.batch)
        x, z = to_tensor(pics[pick]), torch.from_numpy(latents[pick]).float()
        z = (z + a.jitter * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)) / vae.config.scaling_factor
        with torch.autocast("cpu", torch.bfloat16):
            out = vae.decode(z).sample.float()
        rec = detail_loss(out, x)
        slope, = torch.autograd.grad(rec, out, retain_graph=True)
        critical, fooled, told = used > a.begin * 0.7, torch.zeros(()), torch.zeros(())
        if critical:
            with torch.autocast("cpu", torch.bfloat16):
                verdict, features = critic(out)
                with torch.no_grad():
                    wanted = critic(x)[1]
            fooled = -verdict.mean() + 4 * sum(F.l1_loss(f.float(), w.float()) for f, w in zip(features, wanted))
            push, = torch.autograd.grad(fooled, out, retain_graph=True)
            if used > a.begin:
                slope = slope + push * (a.sharp * slope.norm() / (push.norm() + 1e-12))
            with torch.autocast("cpu", torch.bfloat16):
                real, fake = critic(x)[0], critic(out.detach())[0]
            told = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            told.backward()
        out.backward(slope)
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in live + judging]
        used, = fastops.average(grads, (time.time() - start) / (60 * a.minutes))
        torch.nn.utils.clip_grad_norm_(live, 1.0)
        opt.step()
        opt.zero_grad()
        if critical:
            critic_opt.step()
            critic_opt.zero_grad()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, live, 1 - min(0.995, (1 + step) / (10 + step)))
        if step % 50 == 0 and rank == 0:
            print(f"step {step} t {time.time() - start:.0f}s cpu {time.process_time():.0f}s L1 {F.l1_loss(out.detach(), x).item():.4f} loss {rec.item():.4f} "
                  f"critic {told.item():.3f}", flush=True)
        if rank == 0 and (step % 200 == 0 or used >= 1):
            kept = [p.detach().clone() for p in live]
            with torch.no_grad():
                torch._foreach_copy_(live, average)
                vae.save_pretrained(a.out)
                torch._foreach_copy_(live, kept)


@torch.no_grad()
def encode(a):
    """Latents of every picture; the encoder is rescaled so that latents * 0.18215 have unit deviation in every channel.
    With --keep it stays as it is (for a published autoencoder, whose latents a UNet already knows)."""
    rank, world = fastops.connect(), int(os.environ.get("WORLD_SIZE", 1))
    fastops.patch()
    pics = np.load(f"{a.data}/pictures.npy", mmap_mode="r")
    vae = AutoencoderKL.from_pretrained(a.vae).to(memory_format=torch.channels_last).eval()
    z, per = [], len(pics) // world
    for i in range(rank * per, (rank + 1) * per, 50):
        with torch.autocast("cpu", torch.bfloat16):
            z.append(vae.encode(to_tensor(pics[i:i + 50])).latent_dist.mean.float().contiguous())
    np.save(f"{a.data}/latents.{rank}.npy", torch.cat(z).numpy())
    fastops.average([], 0.0)                                # wait for each other
    if rank == 0:
        z = torch.cat([torch.from_numpy(np.load(f"{a.data}/latents.{r}.npy")) for r in range(world)])
        mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
        print("latent mean per channel", mean.tolist(), "deviation", std.tolist())
        if a.keep:
            mean, std = torch.zeros(4), torch.full((4,), 1 / 0.18215)
        else:
            rescale(vae, mean, 1 / (0.18215 * std))
            vae.save_pretrained(a.vae)
        np.save(f"{a.data}/latents.npy", ((z - mean[:, None, None]) / std[:, None, None]).half().numpy())


def rescale(vae, mean, k):
    """Latent z becomes (z - mean) * k, channel by channel: folded into quant_conv and post_quant_conv, pictures stay the same."""
    q, p = vae.quant_conv, vae.post_quant_conv
    q.weight[:4] *= k[:, None, None, None]
    q.bias[:4] = (q.bias[:4] - mean) * k
    q.bias[4:] += 2 * torch.log(k)                       # log-variance
    p.bias += p.weight[:, :, 0, 0] @ mean
    p.weight /= k[:, None, None]


if __name__ == "__main__":
    torch.set_num_threads(1)
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="cmd", required=True)
    p = sub.add_parser("render")
    p.add_argument("--out", default="data")
    p.add_argument("--count", type=int, default=24000)
    p.add_argument("--seed", type=int, default=1)
    p = sub.add_parser("train")
    p.add_argument("--data", default="data")
    p.add_argument("--out", default="vae")
    p.add_argument("--minutes", type=float, default=18)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--kl", type=float, default=3e-4)
    p = sub.add_parser("decoder")
    p.add_argument("--data", default="data")
    p.add_argument("--vae", default="vae")
    p.add_argument("--out", default="vae_sharp")
    p.add_argument("--minutes", type=float, default=12)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--jitter", type=float, default=0.15, help="largest noise on the latents, in units of their deviation")
    p.add_argument("--sharp", type=float, default=0.5, help="strength of the critic against that of the plain loss")
    p.add_argument("--begin", type=float, default=0.4, help="share of the time before the critic has a say")
    p = sub.add_parser("encode")
    p.add_argument("--data", default="data")
    p.add_argument("--vae", default="vae")
    p.add_argument("--keep", action="store_true", help="leave the autoencoder as it is")
    a = ap.parse_args()
    {"render": render, "train": train, "encode": encode, "decoder": train_decoder}[a.cmd](a)
