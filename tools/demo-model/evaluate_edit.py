"""Step 5: how well the models made for filling in and for editing do what they are told, by the program itself.

  python evaluate_edit.py instruct --program cudream --model demo-edit    --out edits.png
  python evaluate_edit.py inpaint  --program cudream --model demo-inpaint --out filled.png

Scenes are drawn by seeds that training never used; pictures are judged by judge.safetensors (evaluate.py).
"""
import argparse
import json
import pathlib
import random
import subprocess
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import painting
import scenes
from evaluate import Judge, sheet, tensor
from train_edit import random_edit
from train_unet import targets


def box_around(position, size=128):
    """A mask over the part of the picture where a thing at this position stands."""
    x, mask = scenes.POS_X[position] * size, np.zeros((size, size), np.uint8)
    mask[size // 8:, max(0, int(x - size * 0.24)):int(x + size * 0.24)] = 255
    return mask


def edits(rng):
    """Before, after, and what the program is asked."""
    before, after, instruction = random_edit(rng)
    return before, after, {"edit": instruction}, None


def holes(rng):
    while True:
        after = scenes.random_scene(rng)
        if len(after["objects"]) == 1:
            thing = after["objects"][0]
            return dict(after, objects=[]), after, {"prompt": scenes.plain_caption(after)}, box_around(thing["pos"])


@torch.no_grad()
def seen(judge, pictures):
    return torch.stack([o.argmax(1) for o in judge(tensor(pictures))[0]], 1).tolist()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("kind", choices=("inpaint", "instruct"))
    ap.add_argument("--program", default="../../build/release/bin/cudream")
    ap.add_argument("--model", required=True)
    ap.add_argument("--judge", default="judge.safetensors")
    ap.add_argument("--count", type=int, default=100)
    ap.add_argument("--out")
    a, options = ap.parse_known_args()
    rng, judge = random.Random(31337), Judge()
    judge.load_state_dict(load_file(a.judge))
    judge.eval()
    cases = [(edits if a.kind == "instruct" else holes)(rng) for _ in range(a.count)]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with open(folder / "items.jsonl", "w") as items:
            for i, (before, _, item, mask) in enumerate(cases):
                Image.fromarray(painting.render(before)).save(folder / f"{i}.png")
                item |= {"image": str(folder / f"{i}.png"), "seed": i}
                if mask is not None:
                    Image.fromarray(mask).save(folder / f"{i}.mask.png")
                    item["mask"] = str(folder / f"{i}.mask.png")
                items.write(json.dumps(item) + "\n")
        subprocess.run([a.program, "batch", folder / "items.jsonl", "-o", folder / "out", "-m", a.model, "--quiet", *options], check=True)
        made = [np.array(Image.open(next((folder / "out").glob(f"{i + 1:05}-*.png"))).convert("RGB")) for i in range(a.count)]
    before = [painting.render(case[0]) for case in cases]
    changed, kept = [], []
    for got, (was, wanted, _, _) in zip(seen(judge, made), cases):
        was, wanted = targets(was), targets(wanted)
        changed.append(all(g == w for g, w, old in zip(got, wanted, was) if w != old))
        kept += [g == w for g, w, old in zip(got, wanted, was) if w == old]
    blind = np.mean([all(g == w for g, w, old in zip(got, targets(c[1]), targets(c[0])) if w != old) for got, c in zip(seen(judge, before), cases)])
    print(f"{a.kind}: what was asked for is there in {100 * np.mean(changed):.0f}% of {a.count} (in the pictures before: {100 * blind:.0f}%); "
          f"of what was to stay {100 * np.mean(kept):.0f}% stays")
    if a.out:
        sheet(np.stack([p for pair in zip(before, made) for p in pair]), 20, a.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
