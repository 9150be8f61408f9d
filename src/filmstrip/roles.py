"""What the components of a pipeline are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Role(Enum):
    """What a component is for: shared code asks for this, and not for names."""

    DENOISER = "works at every step: nearly all weights and time are theirs"
    AUTOENCODER = "turns pixels into latents, and latents into pixels"
    TEXT_ENCODER = "turns the tokens of texts into embeddings"
    TOKENIZER = "turns texts into tokens"
    IMAGE_ENCODER = "turns pictures into embeddings"
    IMAGE_PROCESSOR = "turns pictures into what an image encoder takes"
    SCHEDULER = "has the noise levels and the solver"
    UPSAMPLER = "makes latents larger"
    CHECKER = "looks at finished pictures"


USUAL = {
    "controlnet": Role.DENOISER,
    "feature_extractor": Role.IMAGE_PROCESSOR,
    "image_encoder": Role.IMAGE_ENCODER,
    "image_processor": Role.IMAGE_PROCESSOR,
    "latent_upsampler": Role.UPSAMPLER,
    "safety_checker": Role.CHECKER,
    "scheduler": Role.SCHEDULER,
    "text_encoder": Role.TEXT_ENCODER,
    "tokenizer": Role.TOKENIZER,
    "transformer": Role.DENOISER,
    "unet": Role.DENOISER,
    "vae": Role.AUTOENCODER,
}
"""By the name that checkpoints give a component; further ones of a kind are called `text_encoder_2`, `..._3`."""


def role_of(name: str, own: Mapping[str, Role]) -> Role | None:
    """What a component is for, as its pipeline says, or else as its name says; None if neither does."""
    return own.get(name) or USUAL.get(re.sub(r"_\d+$", "", name))


def uncompiled(network: Any) -> Any:
    """The network inside of what `torch.compile` made of it, or what is given itself if it is none of those."""
    return getattr(network, "_orig_mod", network)
