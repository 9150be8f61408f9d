"""The pipelines of ModelScope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import filmstrip
from tests.contract.registered import Case, changes, raises, shown_by
from tests.models.ltx.cases import clip, normal
from tests.tiny_modelscope import parts
from tests.tiny_stable_diffusion import WINDOW

EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
FRAMES = 6


def embeds(seed: int, tokens: int = WINDOW) -> torch.Tensor:
    return normal(1, tokens, 16, seed=seed)


def small_clip(seed: int, num_frames: int = FRAMES) -> list[Any]:
    return [frame.resize((12, 16)) for frame in clip(seed, num_frames)]


CALL = {
    "prompt": "a red star spinning",
    "height": 16,
    "width": 12,
    "num_frames": FRAMES,
    "num_inference_steps": 2,
    "guidance_scale": 2.0,
}
GIVEN = {"prompt": None, "prompt_embeds": embeds(0)}
GIVEN_NEGATIVE = {"negative_prompt_embeds": embeds(1)}
PROMPTS: dict[str, Any] = {
    "batch": {"prompt": ["a cat", "two dogs in the rain"]},
    "singles": [{"prompt": "a cat"}, {"prompt": "two dogs in the rain"}],
}
LONG = "a red star that spins and spins over a navy background, until it is gone"
LATENTS = normal(1, 4, FRAMES, 8, 6)
COMMON: dict[str, Any] = {
    "generator": shown_by("test_the_seed_decides_the_video"),
    "output_type": shown_by("test_output_types_agree"),
    "return_dict": shown_by("test_the_result_can_be_unpacked"),
    "prompt": changes("two dogs in the rain"),
    "negative_prompt": [
        changes("blurry"),
        raises("blurry", "Both", **GIVEN_NEGATIVE),
        raises(["blurry", "dull"], "2 negative prompts"),
    ],
    "height": [changes(20), raises(17, "use 16 or 18"), raises(0, "height")],
    "width": [changes(16), raises(17, "use 16 or 18"), raises(0, "width")],
    "num_inference_steps": [changes(4), raises(0, "num_inference_steps")],
    "guidance_scale": [changes(7.5), changes(1.0)],
    "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
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
    "clip_skip": [changes(1), raises(3, "clip_skip must be between 0 and 2")],
    "long_prompts": changes(True, prompt=LONG),
    "cross_attention_kwargs": raises({"scale": 0.5}, "cross_attention_kwargs"),
    "callback": [shown_by("test_an_old_callback_is_called_at_every_so_many_steps"), raises(7, "callback must be")],
    "callback_steps": [shown_by("test_an_old_callback_is_called_at_every_so_many_steps"), raises(0, "callback_steps")],
    "callback_on_step_end": [
        shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
        raises(7, "callback_on_step_end"),
    ],
    "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
    "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
}


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_prompt` makes of the prompts of a call."""
    encoded = pipeline.encode_prompt(call["prompt"], negative_prompt=call.get("negative_prompt"))
    return {"prompt": None, "negative_prompt": None, **dict(zip(EMBEDS, encoded, strict=True))}


def text_case(name: str, scheduler: str) -> Case:
    """Text to video."""
    has_eta = scheduler == "DDIMScheduler"
    return Case(
        name=f"ModelScope text, {name}",
        pipeline="TextToVideoSDPipeline",
        make=lambda: filmstrip.TextToVideoSDPipeline(**parts(scheduler)),
        call=CALL,
        variations={
            **COMMON,
            "num_frames": [changes(5), changes(1), raises(0, "num_frames"), raises(2.5, "num_frames")],
            "eta": changes(0.5) if has_eta else raises(0.5, f"eta has no effect with {scheduler}"),
        },
        embeddings=embeddings,
        output_type="np",
        bfloat16_error=0.12,
        **PROMPTS,
    )


VIDEO = Case(
    name="ModelScope video",
    pipeline="VideoToVideoSDPipeline",
    make=lambda: filmstrip.VideoToVideoSDPipeline(**parts()),
    call={
        **{name: value for name, value in CALL.items() if name not in ("height", "width", "num_frames")},
        "video": small_clip(0),
        "strength": 1.0,
    },
    variations={
        **COMMON,
        "eta": changes(0.5),
        "video": [
            changes(small_clip(1)),
            changes(small_clip(0, 4)),
            changes(normal(1, FRAMES, 4, 8, 6)),
            raises(None, "none was given; pass its frames as video"),
            raises([], "none was given; pass its frames as video"),
            raises(torch.zeros(0, 3, 16, 12), "a video has no frames"),
            raises([small_clip(0), small_clip(1)], "2 clips were given for 1 prompts"),
        ],
        "strength": [
            changes(0.7),
            raises(1.5, "between 0 and 1"),
            raises(-0.5, "between 0 and 1"),
            raises(0.0, "leaves none of 2 steps"),
            raises(0.1, "leaves none of 2 steps"),
        ],
    },
    batch={**PROMPTS["batch"], "video": [small_clip(0), small_clip(1)]},
    singles=[{"prompt": prompt, "video": small_clip(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])],
    embeddings=embeddings,
    output_type="np",
    bfloat16_error=0.12,
)
CASES = [text_case("DDIM", "DDIMScheduler"), text_case("ancestral", "EulerAncestralDiscreteScheduler"), VIDEO]
