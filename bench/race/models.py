"""Writes the UNet and decoder of Stable Diffusion 1.5 with random weights as OpenVINO IR (fp16 weights) and PyTorch files.

    models.py FOLDER
"""
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel


class Unet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8,
                                        block_out_channels=(320, 640, 1280, 1280))

    def forward(self, sample, timestep, context):
        return self.net(sample, timestep, context, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        levels = 4
        vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
                            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels)
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latent):
        return self.decoder(self.post_quant_conv(latent))


def inputs(part, size):
    side = size // 8
    if part == "decoder":
        return (torch.randn(1, 4, side, side),)
    return torch.randn(2, 4, side, side), torch.full((2,), 500.0), torch.randn(2, 77, 768)


def main():
    import openvino  # others take the networks from here without it
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.set_grad_enabled(False)
    for part, make in (("unet", Unet), ("decoder", Decoder)):
        torch.manual_seed(1)
        module = make().eval()
        torch.save(module.to(torch.bfloat16), f"{folder}/{part}.pt")
        model = openvino.convert_model(module.float(), example_input=inputs(part, 256))
        openvino.save_model(model, f"{folder}/{part}.xml", compress_to_fp16=True)


if __name__ == "__main__":
    main()
