"""A tiny pipeline of LTX-Video with random weights, and a short run of it."""

import torch

from filmstrip import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from tests import tiny

# A video of 64x64 and 9 frames, in two steps.
SMALL = ("--size", "64x64", "--num-frames", "9", "--steps", "2", "--device", "cpu")


def tiny_pipeline():
    torch.manual_seed(0)
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
        transformer=LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
    )
