"""The steps and the decoding of released models at full width, with random weights: ours and the reference's.

Each work has the same weights and the same input on both sides. "ours" is called as a run calls it, with what does not
change from step to step prepared once; the reference computes that anew, as its pipelines do.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import filmstrip
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.nn.attention_layers import remembering_prompts

FAMILIES = Path(__file__).parent.parent / "tests" / "models"
HAS_REFERENCE = importlib.util.find_spec("diffusers") is not None
TIMESTEP = 500


@dataclass
class Work:
    """A call of ours and, where it is at hand, the reference's."""

    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor] | None
    networks: list[nn.Module]
    """Ours, and the reference's."""
    scale: float = 1.0
    """How many times as much the whole model has to do."""
    note: str = ""
    run: Callable[[], None] | None = None
    """What is timed in place of `ours`: the same without keeping all that it gives."""
    blocks: str = ""
    """The name of a list of blocks that are compiled one by one; empty compiles the network whole."""

    def compile(self) -> None:
        """Have both networks compiled, when they are called next."""
        for network in self.networks:
            for part in getattr(network, self.blocks) if self.blocks else [network]:
                part.compile()


@dataclass(frozen=True)
class Setting:
    """Where works are made, and how large."""

    device: torch.device
    miniature: bool

    def pick(self, full: Any, small: Any) -> Any:
        return small if self.miniature else full

    def normal(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(*shape, device=self.device).to(dtype)


def config_of(family: str, checkpoint: str, component: str) -> dict[str, Any]:
    """The published configuration of a network."""
    folder = FAMILIES / family / "manifests" / checkpoint / component
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def pair(kind: str, config: dict[str, Any], setting: Setting, dtype: torch.dtype) -> list[Any]:
    """Our network and, if it is at hand, the reference's of the same name, with the same random weights."""
    classes = [getattr(filmstrip, kind)]
    if HAS_REFERENCE:
        import diffusers

        classes.append(getattr(diffusers, kind))
    networks = []
    for one in classes:
        with torch.device(setting.device):
            made = one.from_config(config)
        networks.append(made.to(setting.device, dtype).eval())
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    return networks


# ---- steps -----------------------------------------------------------------------------------------------------------

SMALL_COGVIDEOX = {"num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 8, "text_embed_dim": 16}


def cogvideox(setting: Setting, checkpoint: str, blocks: int | None) -> Work:
    """A guided step of 49 frames of 720x480."""
    dtype = torch.bfloat16
    config = config_of("cogvideox", checkpoint, "transformer")
    whole = config["num_layers"]
    blocks = setting.pick(blocks or whole, 2)
    config |= {"num_layers": blocks, **setting.pick({}, {**SMALL_COGVIDEOX, "sample_height": 4, "sample_width": 6})}
    size = setting.pick((13, 60, 90), (3, 4, 6))
    networks = pair("CogVideoXTransformer3DModel", config, setting, dtype)
    latents = setting.normal(2, size[0], config["in_channels"], *size[1:], dtype=dtype)
    prompt = setting.normal(2, config["max_text_seq_length"], config["text_embed_dim"], dtype=dtype)
    timestep = torch.full((2,), TIMESTEP, device=setting.device)
    table = networks[0].rotary_table(size)
    their_table = None if table is None else tuple(part.repeat_interleave(2, -1) for part in table.unbind(-1))

    def theirs() -> Tensor:
        made: Tensor = networks[1](latents, prompt, timestep, image_rotary_emb=their_table).sample
        return made

    return Work(
        lambda: networks[0](latents, prompt, timestep, image_rotary_emb=table).sample,
        theirs if HAS_REFERENCE else None,
        networks,
        whole / blocks,
        f"{blocks} of {whole} blocks, scaled" if blocks < whole else "whole",
        blocks="transformer_blocks",
    )


SMALL_LTX_DECODER = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1,) * 5,
    "decoder_block_out_channels": (8, 8, 8, 8),
    "decoder_layers_per_block": (1,) * 5,
}


def ltx(setting: Setting) -> Work:
    """A guided step of 161 frames of 704x512."""
    dtype = torch.bfloat16
    config = config_of("ltx", "ltx-video", "transformer")
    small = {"num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32, "caption_channels": 16}
    config |= setting.pick({}, {**small, "num_layers": 2})
    size = setting.pick((21, 16, 22), (2, 4, 4))
    networks = pair("LTXVideoTransformer3DModel", config, setting, dtype)
    ours = networks[0]
    tokens = setting.normal(2, size[0] * size[1] * size[2], config["in_channels"], dtype=dtype)
    prompt = setting.normal(2, 128, config["caption_channels"], dtype=dtype)
    mask = torch.ones(2, 128, device=setting.device, dtype=dtype)
    mask[:, 40:] = 0
    timestep = torch.full((2,), float(TIMESTEP), device=setting.device)
    grid = {"rope_interpolation_scale": (8 / 25, 32, 32)}
    places = ours.grid_coordinates(size, grid["rope_interpolation_scale"], setting.device)
    once = {"encoder_hidden_states": ours.prepare_prompt(prompt, mask), "rotary": ours.rotary(places)}
    given = {"num_frames": size[0], "height": size[1], "width": size[2], **grid}

    def theirs() -> Tensor:
        made: Tensor = networks[1](tokens, prompt, timestep, encoder_attention_mask=mask, **given).sample
        return made

    return Work(
        lambda: ours(tokens, timestep=timestep, **once).sample,
        theirs if HAS_REFERENCE else None,
        networks,
        note="whole",
        blocks="transformer_blocks",
    )


def text2video_zero(setting: Setting) -> Work:
    """A guided step of 8 frames of 512x512 that look at the first one."""
    dtype = setting.pick(torch.float16, torch.bfloat16)
    config = config_of("stable_diffusion", "stable-diffusion-v1-5", "unet")
    small = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32, "layers_per_block": 1}
    config |= setting.pick({}, small)
    side, frames = setting.pick(64, 16), setting.pick(8, 2)
    networks = pair("UNet2DConditionModel", config, setting, dtype)
    latents = setting.normal(2 * frames, 4, side, side, dtype=dtype)
    prompt = setting.normal(2, 77, config["cross_attention_dim"], dtype=dtype).repeat_interleave(frames, 0)
    across = AcrossFrames(networks[0], frames)

    @remembering_prompts
    def ours() -> Tensor:
        made: Tensor = across(latents, TIMESTEP, prompt).sample
        return made

    if HAS_REFERENCE:
        import diffusers

        zero = sys.modules[diffusers.TextToVideoZeroPipeline.__module__]  # its place differs from release to release
        networks[1].set_attn_processor(zero.CrossFrameAttnProcessor2_0(batch_size=2))

    def theirs() -> Tensor:
        made: Tensor = networks[1](latents, TIMESTEP, prompt).sample
        return made

    return Work(
        ours,
        theirs if HAS_REFERENCE else None,
        networks,
        note="whole",
    )


def modelscope(setting: Setting) -> Work:
    """A guided step of 16 frames of 256x256."""
    dtype = setting.pick(torch.float16, torch.bfloat16)
    config = config_of("modelscope", "text-to-video-ms-1.7b", "unet")
    small = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32, "attention_head_dim": 8}
    config |= setting.pick({}, {**small, "layers_per_block": 1})
    frames, side = setting.pick((16, 32), (2, 16))
    networks = pair("UNet3DConditionModel", config, setting, dtype)
    latents = setting.normal(2, 4, frames, side, side, dtype=dtype)
    prompt = setting.normal(2, 77, config["cross_attention_dim"], dtype=dtype)
    given = latents, TIMESTEP, prompt
    ours = remembering_prompts(lambda: networks[0](*given).sample)
    return Work(ours, (lambda: networks[1](*given).sample) if HAS_REFERENCE else None, networks, note="whole")


def stable_video_diffusion(setting: Setting) -> Work:
    """A guided step of 14 frames of 1024x576."""
    dtype = setting.pick(torch.float16, torch.bfloat16)
    config = config_of("stable_video_diffusion", "stable-video-diffusion-img2vid", "unet")
    small = {"block_out_channels": (32, 32, 64, 64), "num_attention_heads": (2, 2, 4, 4), "layers_per_block": 1}
    config |= setting.pick({}, small)
    frames, size = setting.pick((14, (72, 128)), (2, (16, 16)))
    networks = pair("UNetSpatioTemporalConditionModel", config, setting, dtype)
    latents = setting.normal(2, frames, 8, *size, dtype=dtype)
    picture = setting.normal(2, 1, config["cross_attention_dim"], dtype=dtype)
    numbers = torch.tensor([[6.0, 127.0, 0.02]] * 2, device=setting.device, dtype=dtype)
    given = latents, 1.0, picture, numbers
    ours = remembering_prompts(lambda: networks[0](*given).sample)
    return Work(ours, (lambda: networks[1](*given).sample) if HAS_REFERENCE else None, networks, note="whole")


# ---- decoders --------------------------------------------------------------------------------------------------------


def decoder(kind: str, config: dict[str, Any], setting: Setting, dtype: torch.dtype, size: tuple[int, ...]) -> Work:
    """Decoding of latents of that size, (batch, channels, [frames,] height, width): ours part by part."""
    networks = pair(kind, config, setting, dtype)
    for network in networks:
        del network.encoder
    latents = setting.normal(size[0], networks[0].config["latent_channels"], *size[1:], dtype=dtype)
    axis = 2 if len(size) == 4 else 0

    def ours() -> Tensor:
        return torch.cat(list(networks[0].decode_stream(latents)), axis)

    def run() -> None:
        for _ in networks[0].decode_stream(latents):
            pass

    def theirs() -> Tensor:
        made: Tensor = networks[1].decode(latents).sample
        return made

    return Work(ours, theirs if HAS_REFERENCE else None, networks, note="part by part", run=run)


def cogvideox_decoder(setting: Setting) -> Work:
    """49 frames of 720x480."""
    config = config_of("cogvideox", "cogvideox-2b", "vae")
    config |= setting.pick({}, {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2})
    size = setting.pick((1, 13, 60, 90), (1, 3, 4, 6))
    return decoder("AutoencoderKLCogVideoX", config, setting, torch.bfloat16, size)


def ltx_decoder(setting: Setting) -> Work:
    """161 frames of 704x512."""
    config = config_of("ltx", "ltx-video", "vae")
    config |= setting.pick({}, SMALL_LTX_DECODER)
    size = setting.pick((1, 21, 16, 22), (1, 2, 2, 3))
    return decoder("AutoencoderKLLTXVideo", config, setting, torch.bfloat16, size)


def picture_decoder(setting: Setting) -> Work:
    """8 frames of 512x512."""
    config = config_of("stable_diffusion", "stable-diffusion-v1-5", "vae")
    config |= setting.pick({}, {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4})
    dtype = setting.pick(torch.float16, torch.bfloat16)
    return decoder("AutoencoderKL", config, setting, dtype, setting.pick((8, 64, 64), (2, 4, 4)))


def stable_video_decoder(setting: Setting) -> Work:
    """14 frames of 1024x576, all at once on both sides."""
    config = config_of("stable_video_diffusion", "stable-video-diffusion-img2vid", "vae")
    config |= setting.pick({}, {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1})
    dtype = setting.pick(torch.float16, torch.bfloat16)
    frames, size = setting.pick((14, (72, 128)), (2, (4, 4)))
    networks = pair("AutoencoderKLTemporalDecoder", config, setting, dtype)
    for network in networks:
        del network.encoder
    latents = setting.normal(frames, 4, *size, dtype=dtype)
    ours, theirs = ((lambda vae=vae: vae.decode(latents, frames).sample) for vae in (networks * 2)[:2])
    return Work(ours, theirs if HAS_REFERENCE else None, networks, note="all frames")


WORKS: dict[str, Callable[[Setting], Work]] = {
    "ltx-2b step": ltx,
    "cogvideox-2b step": lambda setting: cogvideox(setting, "cogvideox-2b", None),
    "text2video-zero step": text2video_zero,
    "ltx decode": ltx_decoder,
    "stable-diffusion decode": picture_decoder,
    "cogvideox-5b step": lambda setting: cogvideox(setting, "cogvideox-5b", 4),
    "cogvideox decode": cogvideox_decoder,
    "modelscope step": modelscope,
    "stable-video-diffusion step": stable_video_diffusion,
    "stable-video-diffusion decode": stable_video_decoder,
}
COMPILED = ("ltx-2b step", "cogvideox-2b step", "cogvideox-5b step", "text2video-zero step")
