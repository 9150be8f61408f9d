"""The pipelines of LTX-Video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

import filmstrip
from tests import tiny
from tests.contract.registered import Case, Variation, changes, raises, shown_by
from tests.parity.references import randomise

EMBEDS = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
UPSAMPLER = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1}


def parts(*, timed: bool) -> dict[str, Any]:
    """Components with random weights; `timed` makes those of 0.9.1 and later, whose decoder takes a timestep."""
    settings = tiny.LTX_TIMED_AUTOENCODER if timed else tiny.LTX_AUTOENCODER
    torch.manual_seed(0)
    return {
        "transformer": randomise(filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER), spread=0.1),
        "vae": randomise(filmstrip.AutoencoderKLLTXVideo(**settings), spread=0.1),
        "scheduler": filmstrip.FlowMatchEulerDiscreteScheduler(),
        "text_encoder": randomise(tiny.text_encoder()),
        "tokenizer": tiny.tokenizer(),
    }


def upsampler_parts(*, timed: bool) -> dict[str, Any]:
    """An autoencoder and an upsampler of its latents."""
    torch.manual_seed(0)
    upsampler = randomise(filmstrip.LTXLatentUpsamplerModel(**UPSAMPLER))
    return {"vae": parts(timed=timed)["vae"], "latent_upsampler": upsampler}


def picture(seed: int) -> Image.Image:
    """Noise of no legal size."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def clip(seed: int, num_frames: int = 9) -> list[Image.Image]:
    return [picture(100 * seed + index) for index in range(num_frames)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeds(seed: int, tokens: int = 6) -> torch.Tensor:
    return normal(1, tokens, 16, seed=seed)


TEXT = {"prompt": "a red star spinning"}
SIZE = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2}
WHOLE = torch.ones(1, 6, dtype=torch.bool)
HALF = torch.tensor([[1, 1, 1, 0, 0, 0]], dtype=torch.bool)
GIVEN = {"prompt": None, "prompt_embeds": embeds(0), "prompt_attention_mask": WHOLE}
GIVEN_NEGATIVE = {"negative_prompt_embeds": embeds(1), "negative_prompt_attention_mask": WHOLE}

DECODING_TIMED: dict[str, Any] = {
    "decode_timestep": [changes(0.3), changes([0.3])],
    "decode_noise_scale": [changes(0.3), changes([0.3])],
}
DECODING_UNTIMED: dict[str, Any] = {
    "decode_timestep": raises(0.3, "takes no timestep"),
    "decode_noise_scale": raises(0.3, "takes no timestep"),
}
SIZE_VARIATIONS: dict[bool, dict[str, Any]] = {  # by whether it is the autoencoder with the timed decoder
    False: {"height": [changes(96), raises(63, "use 56 or 64")], "width": [changes(96), raises(1, "use 8")]},
    True: {"height": [changes(96), raises(63, "use 32 or 64")], "width": [changes(96), raises(1, "use 32")]},
}
COMMON: dict[str, Any] = {
    "generator": shown_by("test_the_seed_decides_the_video"),
    "output_type": shown_by("test_output_types_agree"),
    "return_dict": shown_by("test_the_result_can_be_unpacked"),
}
TEXT_VARIATIONS: dict[str, Any] = {
    **COMMON,
    "prompt": changes("two dogs in the rain"),
    "negative_prompt": [
        changes("blurry"),
        raises("blurry", "Both", **GIVEN_NEGATIVE),
        raises(["blurry", "dull"], "2 negative prompts"),
    ],
    "num_frames": [changes(17), raises(0, "num_frames"), raises(9.5, "num_frames")],
    "frame_rate": [changes(8), raises(0, "frame_rate")],
    "num_inference_steps": [changes(3), raises(0, "num_inference_steps"), raises(3, "timesteps", timesteps=[900, 400])],
    "timesteps": changes([900, 400]),
    "guidance_scale": [changes(7.5), changes(1.0)],
    "base_noise_share": [changes(0.5), raises(1.5, "between 0 and 1")],
    "guidance_rescale": [changes(0.7), raises(1.5, "between 0 and 1")],
    "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
    "prompt_embeds": [
        changes(embeds(2), **GIVEN),
        raises(embeds(0), "needs prompt_attention_mask", prompt=None),
        raises(embeds(0), "Both prompt and prompt_embeds", prompt_attention_mask=WHOLE),
    ],
    "prompt_attention_mask": [changes(HALF, **GIVEN), raises(WHOLE, "without prompt_embeds")],
    "negative_prompt_embeds": [
        changes(embeds(2), **GIVEN, **GIVEN_NEGATIVE),
        changes(embeds(2), **GIVEN_NEGATIVE, max_sequence_length=6),
        raises(embeds(2, 5), "same shape", **GIVEN, negative_prompt_attention_mask=WHOLE),
    ],
    "negative_prompt_attention_mask": [
        changes(HALF, **GIVEN, **GIVEN_NEGATIVE),
        raises(WHOLE, "without negative_prompt_embeds"),
    ],
    "attention_kwargs": raises({"scale": 0.5}, "attention_kwargs has no effect"),
    "callback_on_step_end": [
        shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
        raises(7, "callback_on_step_end"),
    ],
    "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
    "max_sequence_length": [changes(5), raises(0, "max_sequence_length")],
    "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
}


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_prompt` makes of the prompts of a call."""
    encoded = pipeline.encode_prompt(call["prompt"], call.get("negative_prompt"))
    return {"prompt": None, "negative_prompt": None, **dict(zip(EMBEDS, encoded, strict=True))}


PROMPTS: dict[str, Any] = {
    "batch": {"prompt": ["a cat", "two dogs in the rain"]},
    "singles": [{"prompt": "a cat"}, {"prompt": "two dogs in the rain"}],
}


def text_case(timed: bool) -> Case:
    """Text to video."""
    grid = (2, 2, 2) if timed else (3, 8, 8)
    return Case(
        name="LTX text, timed decoder" if timed else "LTX text",
        pipeline="LTXPipeline",
        make=lambda: filmstrip.LTXPipeline(**parts(timed=timed)),
        call={**TEXT, **SIZE},
        variations={
            **TEXT_VARIATIONS,
            **(DECODING_TIMED if timed else DECODING_UNTIMED),
            **SIZE_VARIATIONS[timed],
            "base_noise_share": [
                changes(0.5),
                raises(0.5, "base_noise_share has no effect with latents", latents=normal(1, 8, *grid)),
            ],
            "latents": [
                changes(normal(1, 8, *grid)),
                changes(normal(1, grid[0] * grid[1] * grid[2], 8)),
                raises(normal(1, 8, 1, 1, 1), "latents must have the shape"),
            ],
        },
        embeddings=embeddings,
        **PROMPTS,
    )


def image_case(timed: bool) -> Case:
    """Image to video."""
    grid = (2, 2, 2) if timed else (3, 8, 8)
    return Case(
        name="LTX image, timed decoder" if timed else "LTX image",
        pipeline="LTXImageToVideoPipeline",
        make=lambda: filmstrip.LTXImageToVideoPipeline(**parts(timed=timed)),
        call={**TEXT, **SIZE, "image": picture(0)},
        variations={
            **TEXT_VARIATIONS,
            **(DECODING_TIMED if timed else DECODING_UNTIMED),
            **SIZE_VARIATIONS[timed],
            "image": [
                changes(picture(1)),
                raises(None, "starts from image or from latents"),
                raises([picture(0), picture(1)], "2 pictures were given for 1 prompts"),
            ],
            "latents": [
                changes(normal(1, 8, *grid, seed=1), image=None, latents=normal(1, 8, *grid)),
                raises(normal(1, 8, *grid), "starts from image or from latents"),
                raises(normal(1, 8, 1, 1, 1), "latents must have the shape", image=None),
            ],
        },
        batch={**PROMPTS["batch"], "image": [picture(0), picture(1)]},
        singles=[{"prompt": prompt, "image": picture(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])],
        embeddings=embeddings,
    )


def condition_case(timed: bool) -> Case:
    """Pictures and clips to video."""
    grid = (2, 2, 2) if timed else (3, 8, 8)
    latents = normal(1, 8, *grid)
    a_clip = filmstrip.LTXVideoCondition(video=clip(1), frame_index=8, strength=0.8)
    return Case(
        name="LTX conditions, timed decoder" if timed else "LTX conditions",
        pipeline="LTXConditionPipeline",
        make=lambda: filmstrip.LTXConditionPipeline(**parts(timed=timed)),
        call={**TEXT, **SIZE, "image": picture(0)},
        variations={
            **TEXT_VARIATIONS,
            **(DECODING_TIMED if timed else DECODING_UNTIMED),
            **SIZE_VARIATIONS[timed],
            "conditions": [
                changes([filmstrip.LTXVideoCondition(image=picture(1))], image=None),
                changes([filmstrip.LTXVideoCondition(image=picture(1)), a_clip], image=None, num_frames=25),
                raises([filmstrip.LTXVideoCondition(image=picture(1))], "Both conditions and image or video"),
                raises([filmstrip.LTXVideoCondition()], "either an image or a video", image=None),
                raises([filmstrip.LTXVideoCondition(picture(1))], "strength has no effect", image=None, strength=0.5),
            ],
            "image": [changes(picture(1)), changes(None), changes([picture(1)])],
            "video": [changes(clip(1), image=None), changes(clip(1, 12), image=None)],
            "frame_index": [
                changes(8),
                changes([8]),
                raises(9, "frame_index must be between 0 and 8"),
                raises([0, 8], "frame_index has 2 values"),
                raises(8, "frame_index has no effect", image=None),
            ],
            "strength": [
                changes(0.5),
                changes([0.5]),
                raises(1.5, "between 0 and 1"),
                raises(0.5, "strength has no effect", image=None),
            ],
            "denoise_strength": [
                changes(0.5, denoise_strength=1 - 1e-3, latents=latents, num_inference_steps=4),
                changes(0.5, denoise_strength=1 - 1e-3, video=clip(1), image=None, num_inference_steps=4),
                raises(0.5, "pass its latents, or one video"),
                raises(0.5, "pass its latents, or one video", video=clip(1, 5), image=None),
                raises(0.01, "leaves none of 2 steps", latents=latents),
                raises(2.0, "between 0 and 1"),
            ],
            "latents": [
                changes(normal(1, 8, *grid, seed=1), denoise_strength=0.5, latents=latents),
                raises(latents, "no effect at a denoise_strength of 1"),
                raises(normal(1, 8, 1, 1, 1), "latents must have the shape", denoise_strength=0.5),
            ],
            "image_cond_noise_scale": [
                changes(0.5),
                raises(-1.0, "can't be negative"),
                raises(0.5, "image_cond_noise_scale has no effect", image=None),
            ],
        },
        embeddings=embeddings,
        **PROMPTS,
    )


def upsample_case(timed: bool) -> Case:
    """Latents of twice the size."""
    size = {"height": 64, "width": 64} if timed else {"height": 32, "width": 32}
    latents = normal(1, 8, 2, 2, 2)
    given = {"latents": latents, "video": None, "height": None, "width": None}
    no_size: dict[str, Variation] = {
        name: raises(64, f"{name} has no effect", latents=latents, video=None, height=None, width=None)
        for name in ("height", "width")
    }
    return Case(
        name="LTX upsampling, timed decoder" if timed else "LTX upsampling",
        pipeline="LTXLatentUpsamplePipeline",
        make=lambda: filmstrip.LTXLatentUpsamplePipeline(**upsampler_parts(timed=timed)),
        call={"video": clip(0), **size},
        variations={
            **COMMON,
            **(DECODING_TIMED if timed else DECODING_UNTIMED),
            "video": [
                changes(clip(1)),
                raises(None, "from video or from latents"),
                raises(clip(1), "from video or from latents", **given),
            ],
            "height": [changes(96), raises(65, "use 64 or"), no_size["height"]],
            "width": [changes(96), raises(65, "use 64 or"), no_size["width"]],
            "latents": [
                changes(normal(1, 8, 2, 2, 2, seed=1), **given),
                raises(latents, "from video or from latents"),
                raises(normal(1, 8, 2, 2), "latents must be (batch", **given),
            ],
            "adain_factor": [changes(0.5), raises(-0.1, "between 0 and 1")],
            "tone_map_compression_ratio": [changes(0.5), raises(1.1, "between 0 and 1")],
        },
        batch={"video": [clip(0), clip(1)]},
        singles=[{"video": clip(0)}, {"video": clip(1)}],
    )


CASES = [make(timed) for make in (text_case, image_case, condition_case, upsample_case) for timed in (False, True)]
