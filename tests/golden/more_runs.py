"""Records runs of the reference implementation that the golden set lacks: SDXL with 9 and 8 input channels, ControlNets of SDXL and SD 2,
few steps (TCD, SDXL-Lightning), networks with blocks missing (BK-SDM, SSD-1B, Segmind-Vega); and TAESD inside.

  python more_runs.py MODELS OUT [NAME...]     MODELS: the golden models, as diffusers folders; OUT: golden/, beside this file

With diffusers 0.42.1 and transformers 5.24.0 (torch 2.15.0, CPU, float32). Each run is a pair of files, as in the golden set. Its
model is one of MODELS; or one of them changed in the tensors that the run's file holds under their names in the original layout (what
the encoder of a ControlNet has beside them is its model's own); or one of them with the UNet that the run's "unet" configures, whose
weights follow from their names: see named_weight().
"""
import json
import os
import pathlib
import re
import sys
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

torch.set_grad_enabled(False)
diffusers.utils.logging.disable_progress_bar()

WORDS = dict(prompt="a watercolor painting of a lighthouse at dusk", negative="blurry, low quality")
RUNS = [
    dict(WORDS, name="sdxl-inpaint/inpaint9_s080", base="sdxl", kind="inpaint", pipeline="StableDiffusionXLInpaintPipeline", channels=9,
         width=96, height=64, steps=5, guidance=5.0, strength=0.8),
    dict(WORDS, name="sdxl-instruct/edit", base="sdxl", kind="instruct", pipeline="StableDiffusionXLInstructPix2PixPipeline", channels=8,
         negative=None, width=64, height=96, steps=4, guidance=5.0, image_guidance_scale=1.5),
    dict(WORDS, name="sdxl/controlnet", base="sdxl", kind="controlnet", pipeline="StableDiffusionXLControlNetPipeline",
         width=96, height=64, steps=4, guidance=5.0, controlnet_conditioning_scale=0.8),
    dict(WORDS, name="sd2/controlnet", base="sd2", kind="controlnet", pipeline="StableDiffusionControlNetPipeline",
         width=64, height=96, steps=4, guidance=7.0, controlnet_conditioning_scale=0.8),
]
FEW = dict(WORDS, negative=None, kind="txt2img", width=64, height=64, steps=4)
RUNS += [
    dict(FEW, name="sd1/txt2img_tcd", base="sd1", pipeline="StableDiffusionPipeline", negative=WORDS["negative"], guidance=3.0, eta=0.3,
         scheduler="TCDScheduler"),
    dict(FEW, name="lcm/txt2img_tcd", base="lcm", pipeline="StableDiffusionPipeline", guidance=8.0, eta=0.7, scheduler="TCDScheduler"),
    dict(FEW, name="sdxl/txt2img_tcd", base="sdxl", pipeline="StableDiffusionXLPipeline", guidance=0.0, eta=0.3, scheduler="TCDScheduler"),
    dict(FEW, name="sdxl/txt2img_lightning", base="sdxl", pipeline="StableDiffusionXLPipeline", guidance=0.0,
         scheduler="EulerDiscreteScheduler", options=dict(timestep_spacing="trailing")),
    dict(FEW, name="sdxl/txt2img_lightning_1step", base="sdxl", pipeline="StableDiffusionXLPipeline", guidance=0.0, steps=1,
         scheduler="EulerDiscreteScheduler", options=dict(timestep_spacing="trailing", prediction_type="sample")),
]
# The structure of the public networks with a twentieth of their channels. What is left of a level is in its layers_per_block.
BK_SDM = dict(block_out_channels=[16, 32, 64, 64], layers_per_block=1, attention_head_dim=2, norm_num_groups=4)
SMALL_XL = dict(block_out_channels=[16, 32, 64], layers_per_block=2, attention_head_dim=[1, 2, 4], norm_num_groups=4,
                mid_block_type="UNetMidBlock2D")
DISTILLED = dict(WORDS, kind="txt2img", width=64, height=64, steps=3, guidance=5.0)
RUNS += [
    dict(DISTILLED, name="bk-sdm-base/txt2img", base="sd1", pipeline="StableDiffusionPipeline", unet=BK_SDM),
    dict(DISTILLED, name="bk-sdm-small/txt2img", base="sd1", pipeline="StableDiffusionPipeline", unet=dict(BK_SDM, mid_block_type=None)),
    dict(DISTILLED, name="bk-sdm-tiny/txt2img", base="sd1", pipeline="StableDiffusionPipeline",
         unet=dict(BK_SDM, mid_block_type=None, block_out_channels=[16, 32, 64], down_block_types=["CrossAttnDownBlock2D"] * 3,
                   up_block_types=["CrossAttnUpBlock2D"] * 3)),
    dict(DISTILLED, name="ssd-1b/txt2img", base="sdxl", pipeline="StableDiffusionXLPipeline",
         unet=dict(SMALL_XL, transformer_layers_per_block=[1, [2, 2], [4, 4]], reverse_transformer_layers_per_block=[[4, 4, 10], [2, 1, 1], 1])),
    dict(DISTILLED, name="segmind-vega/txt2img", base="sdxl", pipeline="StableDiffusionXLPipeline",
         unet=dict(SMALL_XL, transformer_layers_per_block=[1, [1, 1], [2, 2]], reverse_transformer_layers_per_block=[[2, 2, 2], [1, 1, 1], 1])),
]
HINT = (8, 16, 24, 32)  # channels of what sees the picture


class Source:
    """Random numbers of one run, in the order they are asked for."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(int.from_bytes(name.encode(), "big") % 2**31)
        self.drawn = []

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def weight(self, like, gain=1.0):
        """Of a scale that keeps activations, and exact in every half precision."""
        fan_in = like[0].numel() if like.dim() > 1 else 100
        return (gain * self.normal(*like.shape) / fan_in**0.5).to(torch.bfloat16).float()

    def draw(self, shape, *args, **kw):
        self.drawn.append(self.normal(*shape))
        return self.drawn[-1]

    def install(self):
        for name, module in list(sys.modules.items()):
            if name.startswith("diffusers") and hasattr(module, "randn_tensor"):
                module.randn_tensor = self.draw


def unit(pixels):
    x = torch.from_numpy(pixels.astype(np.float32) / 255)
    return x.permute(2, 0, 1)[None] if x.dim() == 3 else x[None, None]


def picture(source, width, height):
    coarse = torch.rand((1, 3, height // 16, width // 16), generator=source.generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return (smooth.clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()


def disc(width, height):
    y, x = np.mgrid[:height, :width]
    return ((x - width * 0.4) ** 2 + (y - height * 0.45) ** 2 < (min(width, height) * 0.3) ** 2).astype(np.uint8) * 255


def load(models, base):
    folder, parts = models / base, {}
    for slot, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection), ("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        if (folder / slot).exists():
            parts[slot] = kind.from_pretrained(str(folder), subfolder=slot).float().eval()
    for slot in ("tokenizer", "tokenizer_2"):
        if (folder / slot).exists():
            parts[slot] = CLIPTokenizer.from_pretrained(str(models / "sd1" / "tokenizer"))
            parts[slot].pad_token = json.loads((folder / slot / "tokenizer_config.json").read_text())["pad_token"]
            parts[slot].model_max_length = 77
    parts["scheduler"] = DDIMScheduler.from_pretrained(str(folder), subfolder="scheduler")
    return parts


def widen(unet, channels, source):
    """More input channels, and the tensor that changed."""
    old = unet.conv_in.weight.data
    unet.register_to_config(in_channels=channels)
    unet.conv_in = torch.nn.Conv2d(channels, old.shape[0], 3, padding=1)
    state = UNet2DConditionModel.state_dict(unet)
    extra = source.weight(torch.empty(old.shape[0], channels - 4, 3, 3))
    unet.conv_in.weight.data = torch.cat([old, extra], 1)
    unet.conv_in.bias.data = source.weight(state["conv_in.bias"])
    return {"model.diffusion_model.input_blocks.0.0.weight": unet.conv_in.weight.data,
            "model.diffusion_model.input_blocks.0.0.bias": unet.conv_in.bias.data}


def named_weight(name, like):
    """Values that follow from a tensor's name, of a scale that keeps activations and exact in every half precision: a hash of 8 bits for each
    (MurmurHash3's finalizer). tests/golden/distilled.h has the same."""
    mask, at = np.uint64(0xFFFFFFFF), np.arange(like.numel(), dtype=np.uint64)
    h = (np.uint64(zlib.crc32(name.encode())) + at * np.uint64(0x9E3779B1)) & mask
    h = (h ^ h >> np.uint64(16)) * np.uint64(0x85EBCA6B) & mask
    h = (h ^ h >> np.uint64(13)) * np.uint64(0xC2B2AE35) & mask
    h ^= h >> np.uint64(16)
    k = (h >> np.uint64(24)).astype(np.int64) - 128  # uniform: of deviation 74
    if like.dim() > 1:
        values = k * 2.0 ** -round(np.log2(74 * (like.numel() // len(like)) ** 0.5))
    else:
        values = 1 + (k >> 3) / 64 if name.endswith("weight") else k / 1024
    return torch.from_numpy(values.astype(np.float32)).reshape(like.shape)


def distilled(unet, changes):
    """A UNet like this one but for changes of its configuration, with weights of their own."""
    net = UNet2DConditionModel.from_config({**unet.config, **changes}).float().eval()
    net.load_state_dict({name: named_weight(name, like) for name, like in net.state_dict().items()})
    return net


def controlnet(unet, source):
    """A ControlNet that shares its encoder with the network, and the tensors that it has beside it."""
    net = ControlNetModel.from_unet(unet, conditioning_channels=3, conditioning_embedding_out_channels=HINT).float().eval()
    changed, state = {}, net.state_dict()
    for key, value in state.items():
        if m := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", key):
            name = f"zero_convs.{m[1]}.0.{m[2]}"
        elif m := re.match(r"controlnet_mid_block\.(.*)", key):
            name = f"middle_block_out.0.{m[1]}"
        elif m := re.match(r"controlnet_cond_embedding\.(conv_in|conv_out|blocks\.(\d+))\.(.*)", key):
            at = {"conv_in": 0, "conv_out": 2 * (2 * len(HINT) - 1)}.get(m[1])
            name = f"input_hint_block.{2 * (int(m[2]) + 1) if at is None else at}.{m[3]}"
        else:
            continue
        state[key] = changed["control_model." + name] = source.weight(value, 0.5 if "block" in name and "hint" not in name else 1.0)
    net.load_state_dict(state)
    return net, changed


def record(run, models, out):
    source, parts = Source(run["name"]), load(models, run["base"])
    width, height, kind = run["width"], run["height"], run["kind"]
    path = out / run["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    xl = "text_encoder_2" in parts
    extra = {} if xl else dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    tensors, facts = {}, {k: v for k, v in run.items() if k not in ("pipeline", "channels", "scheduler", "options", "unet")}
    if kind == "controlnet":
        extra["controlnet"], tensors = controlnet(parts["unet"], source)
        config = {k: v for k, v in extra["controlnet"].config.items() if not k.startswith("_")}
        pathlib.Path(f"{path}.config.json").write_text(json.dumps({"kind": "controlnet", "controlnet": config}, indent=1, default=list) + "\n")
    elif "channels" in run:
        tensors = widen(parts["unet"], run["channels"], source)
    elif "unet" in run:
        parts["unet"] = distilled(parts["unet"], run["unet"])
        facts["unet"] = {k: v for k, v in parts["unet"].config.items() if not k.startswith("_")}
    if "scheduler" in run:
        parts["scheduler"] = getattr(diffusers, run["scheduler"]).from_config(parts["scheduler"].config, **run.get("options", {}))
    if xl:
        extra["force_zeros_for_empty_prompt"] = True
    elif kind == "txt2img":
        extra["image_encoder"] = None
    pipe = getattr(diffusers, run["pipeline"])(**parts, **extra)
    pipe.set_progress_bar_config(disable=True)
    source.install()

    # The autoencoder of a network with blocks missing is its base's, whose pictures other runs have.
    args = dict(prompt=run["prompt"], negative_prompt=run["negative"], num_inference_steps=run["steps"], guidance_scale=run["guidance"],
                output_type="latent" if "unet" in run else "pt")
    args |= {k: run[k] for k in ("strength", "image_guidance_scale", "controlnet_conditioning_scale", "eta") if k in run}
    if kind != "txt2img":
        shown = picture(source, width, height)
        Image.fromarray(shown).save(f"{path}.image.png")
        args["image"] = unit(shown)
    if kind != "controlnet" or xl:
        args |= dict(width=width, height=height) if kind != "instruct" or xl else {}
    if kind == "inpaint":
        mask = disc(width, height)
        Image.fromarray(mask).save(f"{path}.mask.png")
        args["mask_image"] = unit(mask)
    steps, outputs, texts = [], [], []
    args["callback_on_step_end"] = lambda p, i, t, kw: (steps.append(kw["latents"].clone()), {})[1]
    if kind == "instruct":  # has the older form
        args.pop("callback_on_step_end")
        args |= dict(callback=lambda i, t, latents: steps.append(latents.clone()), callback_steps=1)
    pipe.unet.register_forward_hook(lambda m, a, o: outputs.append(o[0] if isinstance(o, tuple) else o.sample))
    encode = pipe.encode_prompt
    pipe.encode_prompt = lambda *a, **kw: texts.append(encode(*a, **kw)) or texts[-1]
    made = pipe(**args).images

    text = texts[0]
    tensors["prompt_embeds"] = torch.cat([text[0], text[1], text[1]]) if kind == "instruct" else text[0]
    if kind != "instruct":
        tensors["negative_prompt_embeds"] = text[1]
    if xl:
        tensors |= dict(pooled_prompt_embeds=text[2], negative_pooled_prompt_embeds=text[3])
    tensors |= {f"noise.{i}": x for i, x in enumerate(source.drawn)}
    tensors |= {"latents": torch.stack(steps), "unet_out.first": outputs[0], "timesteps": pipe.scheduler.timesteps.float()}
    tensors["sigmas"] = getattr(pipe.scheduler, "sigmas", None)
    if "unet" not in run:
        tensors["final_image"] = made
    save_file({k: v.contiguous().clone() for k, v in tensors.items() if v is not None}, f"{path}.safetensors")
    facts |= dict(reference_pipeline=run["pipeline"], scheduler_class=type(pipe.scheduler).__name__,
                  scheduler_config={k: v for k, v in pipe.scheduler.config.items() if not k.startswith("_") and v is not None})
    pathlib.Path(f"{path}.json").write_text(json.dumps(facts, indent=1, default=list) + "\n")
    print(run["name"], "latents", float(steps[-1].std()), "draws", len(source.drawn))


def record_tiny(models, out):
    """Both halves of TAESD, level by level: what goes in, what comes out, and what the last block of each size gives."""
    vae, source, tensors = AutoencoderTiny.from_pretrained(str(models / "taesd")).float().eval(), Source("taesd/levels"), {}
    for half, last_blocks in (("encoder", (1, 5, 9, 13)), ("decoder", (4, 9, 14, 17))):
        for level, layer in enumerate(last_blocks):
            def keep(m, args, result, name=f"at.{half}.levels.{level}"):
                tensors[name] = result.clone()
            vae.get_submodule(f"{half}.layers.{layer}").register_forward_hook(keep)
    tensors["image"], tensors["z"] = 2 * unit(picture(source, 32, 16)) - 1, source.normal(1, 4, 2, 4)
    tensors["encoded"], tensors["decoded"] = vae.encode(tensors["image"]).latents, vae.decode(tensors["z"]).sample
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{out}/taesd/levels.safetensors")


if __name__ == "__main__":
    if len(sys.argv) == 3 or "taesd/levels" in sys.argv[3:]:
        record_tiny(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    for each in RUNS:
        if len(sys.argv) == 3 or each["name"] in sys.argv[3:]:
            record(each, pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
