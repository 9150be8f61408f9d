"""The pipeline of I2VGen-XL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import filmstrip
from tests.contract.registered import Case, changes, raises, shown_by
from tests.models.ltx.cases import normal
from tests.tiny_i2vgen_xl import parts, picture
from tests.tiny_stable_diffusion import WINDOW

EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
FRAMES = 6


def embeds(seed: int, tokens: int = WINDOW) -> torch.Tensor:
    return normal(1, tokens, 16, seed=seed)


CALL = {
    "prompt": "a red star spinning",
    "image": picture(),
    "height": 16,
    "width": 12,
    "num_frames": FRAMES,
    "num_inference_steps": 2,
    "guidance_scale": 2.0,
}
GIVEN = {"prompt": None, "prompt_embeds": embeds(0)}
GIVEN_NEGATIVE = {"negative_prompt_embeds": embeds(1)}
TEXTS = ("a cat", "two dogs in the rain")
LONG = "a red star that spins and spins over a navy background, until it is gone"
LATENTS = normal(1, 4, FRAMES, 8, 6)


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_prompt` makes of the prompts of a call."""
    encoded = pipeline.encode_prompt(call["prompt"], negative_prompt=call.get("negative_prompt"), clip_skip=1)
    return {"prompt": None, "negative_prompt": None, **dict(zip(EMBEDS, encoded, strict=True))}


CASE = Case(
    name="I2VGen-XL",
    pipeline="I2VGenXLPipeline",
    make=lambda: filmstrip.I2VGenXLPipeline(**parts()),
    call=CALL,
    variations={
        "generator": shown_by("test_the_seed_decides_the_video"),
        "output_type": shown_by("test_output_types_agree"),
        "return_dict": shown_by("test_the_result_can_be_unpacked"),
        "prompt": changes("two dogs in the rain"),
        "image": [
            changes(picture(1)),
            changes(picture(0, 20, 16)),
            changes(torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(1))),
            raises(None, "none was given; pass the picture as image"),
            raises([], "no picture was given"),
            raises(torch.zeros(3, 0, 12), "a picture has no pixels"),
            raises([picture(0), picture(1)], "2 pictures were given for 1 prompts"),
            raises("star.png", "a picture must be a PIL image"),
        ],
        "negative_prompt": [
            changes("blurry"),
            raises("blurry", "Both", **GIVEN_NEGATIVE),
            raises(["blurry", "dull"], "2 negative prompts"),
        ],
        "height": [changes(20), raises(17, "use 16 or 18"), raises(0, "height")],
        "width": [changes(16), raises(17, "use 16 or 18"), raises(0, "width")],
        "target_fps": [changes(8), raises(0, "target_fps"), raises(7.5, "target_fps")],
        "num_frames": [changes(5), changes(1), raises(0, "num_frames"), raises(2.5, "num_frames")],
        "num_inference_steps": [changes(4), raises(0, "num_inference_steps")],
        "guidance_scale": [changes(7.5), changes(1.0)],
        "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
        "decode_chunk_size": [
            shown_by("test_frames_decoded_a_few_at_a_time_are_the_same"),
            raises(0, "decode_chunk_size must be a whole number"),
            raises(1.5, "decode_chunk_size must be a whole number"),
        ],
        "latents": [changes(LATENTS), raises(normal(1, 4, 1, 1, 1), "latents must have the shape")],
        "base_noise_share": [
            changes(0.5),
            raises(1.5, "between 0 and 1"),
            raises(0.5, "base_noise_share has no effect with latents", latents=LATENTS),
        ],
        "prompt_embeds": [changes(embeds(2), **GIVEN), raises(embeds(0), "Both prompt and prompt_embeds")],
        "negative_prompt_embeds": [
            changes(embeds(2), **GIVEN, **GIVEN_NEGATIVE),
            changes(embeds(2), **GIVEN_NEGATIVE),
            raises(embeds(2, 5), "same shape", **GIVEN),
        ],
        "clip_skip": [changes(2), changes(None), changes(0), raises(3, "clip_skip must be between 0 and 2")],
        "long_prompts": changes(True, prompt=LONG),
        "cross_attention_kwargs": raises({"scale": 0.5}, "cross_attention_kwargs"),
        "callback_on_step_end": [
            shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
            raises(7, "callback_on_step_end"),
        ],
        "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
        "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
        "eta": changes(0.5),
    },
    batch={"prompt": [*TEXTS], "image": [picture(0), picture(1)]},
    singles=[{"prompt": text, "image": picture(seed)} for seed, text in enumerate(TEXTS)],
    embeddings=embeddings,
    bfloat16_error=0.12,
)
CASES = [CASE]
