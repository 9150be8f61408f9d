"""The pipelines of Stable Diffusion, and Text2Video-Zero, which stands on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import filmstrip
from tests.contract.registered import Case, changes, raises, shown_by
from tests.models.ltx.cases import normal, picture
from tests.tiny_stable_diffusion import WINDOW, controlnet, parts, xl_parts

EMBEDS = ("prompt_embeds", "negative_prompt_embeds")


def embeds(seed: int, tokens: int = WINDOW) -> torch.Tensor:
    return normal(1, tokens, 16, seed=seed)


CALL = {"prompt": "a red star spinning", "height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 2.0}
LONG = "a red star that spins and spins over a navy background, until it is gone"
GIVEN = {"prompt": None, "prompt_embeds": embeds(0)}
GIVEN_NEGATIVE = {"negative_prompt_embeds": embeds(1)}
PROMPTS: dict[str, Any] = {
    "batch": {"prompt": ["a cat", "two dogs in the rain"]},
    "singles": [{"prompt": "a cat"}, {"prompt": "two dogs in the rain"}],
}
COMMON: dict[str, Any] = {
    "generator": shown_by("test_the_seed_decides_the_video"),
    "output_type": shown_by("test_output_types_agree"),
    "return_dict": shown_by("test_the_result_can_be_unpacked"),
    "prompt": changes("two dogs in the rain"),
    "negative_prompt": [changes("blurry"), raises(["blurry", "dull"], "2 negative prompts")],
    "height": [changes(20), raises(17, "use 16 or 18"), raises(0, "height")],
    "width": [changes(12), raises(17, "use 16 or 18"), raises(0, "width")],
    "num_inference_steps": [changes(4), raises(0, "num_inference_steps")],
    "guidance_scale": [changes(7.5), changes(1.0)],
    "eta": changes(0.5),
    "latents": [changes(normal(1, 4, 8, 8)), raises(normal(1, 4, 1, 1), "latents must have the shape")],
    "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
    "long_prompts": changes(True, prompt=LONG),
    "callback_on_step_end": [
        shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
        raises(7, "callback_on_step_end"),
    ],
    "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
    "cross_attention_kwargs": raises({"scale": 0.5}, "cross_attention_kwargs"),
}
PICTURES: dict[str, Any] = {
    **COMMON,
    "negative_prompt": [
        changes("blurry"),
        raises("blurry", "Both", **GIVEN_NEGATIVE),
        raises(["blurry", "dull"], "2 negative prompts"),
    ],
    "num_images_per_prompt": [changes(2), raises(0, "num_images_per_prompt")],
    "ip_adapter_image": raises(picture(0), "ip_adapter_image has no effect"),
    "ip_adapter_image_embeds": raises([embeds(0)], "ip_adapter_image_embeds has no effect"),
    "prompt_embeds": [changes(embeds(2), **GIVEN), raises(embeds(0), "Both prompt and prompt_embeds")],
    "negative_prompt_embeds": [
        changes(embeds(2), **GIVEN, **GIVEN_NEGATIVE),
        changes(embeds(2), **GIVEN_NEGATIVE),
        raises(embeds(2, 5), "same shape", **GIVEN),
    ],
}
OF_TEXT: dict[str, Any] = {
    **PICTURES,
    "timesteps": [
        changes([900, 600, 300]),
        raises([300, 600, 900], "must fall"),
        raises([900], "has no effect with 1 timesteps"),
    ],
    "sigmas": raises([10.0, 2.0, 1.0], "sigmas has no effect with DDIMScheduler"),
    "clip_skip": [changes(1), raises(3, "clip_skip must be between 0 and 2")],
}


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_prompt` makes of the prompts of a call."""
    encoded = pipeline.encode_prompt(call["prompt"], negative_prompt=call.get("negative_prompt"))
    return {"prompt": None, "negative_prompt": None, **dict(zip(EMBEDS, encoded, strict=True))}


TEXT = Case(
    name="Stable Diffusion",
    pipeline="StableDiffusionPipeline",
    make=lambda: filmstrip.StableDiffusionPipeline(**parts()),
    call=CALL,
    variations={**OF_TEXT, "guidance_rescale": [changes(0.7), raises(1.5, "between 0 and 1")]},
    embeddings=embeddings,
    field="images",
    bfloat16_error=0.12,
    **PROMPTS,
)
CONTROLLED = Case(
    name="Stable Diffusion with ControlNet",
    pipeline="StableDiffusionControlNetPipeline",
    make=lambda: filmstrip.StableDiffusionControlNetPipeline(**parts(), controlnet=controlnet(0)),
    call={**CALL, "image": picture(0)},
    variations={
        **OF_TEXT,
        "image": [
            changes(picture(1)),
            raises(None, "nothing was given; pass it as image"),
            raises([picture(0), picture(1)], "2 control pictures were given for 1 prompts"),
        ],
        "controlnet_conditioning_scale": [changes(0.5), raises([0.5, 0.5], "has 2 values for 1 ControlNets")],
        "guess_mode": changes(True),
        "control_guidance_start": [changes(0.5), raises(1.5, "between 0 and 1"), raises(1.0, "must be below")],
        "control_guidance_end": [changes(0.5), raises(-0.5, "between 0 and 1")],
    },
    batch={**PROMPTS["batch"], "image": [picture(0), picture(1)]},
    singles=[{"prompt": prompt, "image": picture(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])],
    embeddings=embeddings,
    field="images",
    bfloat16_error=0.12,
)
CHANGED = Case(
    name="InstructPix2Pix",
    pipeline="StableDiffusionInstructPix2PixPipeline",
    make=lambda: filmstrip.StableDiffusionInstructPix2PixPipeline(**parts(in_channels=8)),
    call={
        **{name: CALL[name] for name in ("prompt", "num_inference_steps", "guidance_scale")},
        "image": picture(0).resize((16, 16)),
    },
    variations={
        **{name: said for name, said in PICTURES.items() if name not in ("height", "width")},
        "image": [changes(picture(1).resize((16, 16))), changes(picture(1)), raises(None, "none was given")],
        "image_guidance_scale": [changes(2.5), raises(0.5, "image_guidance_scale must be at least 1")],
    },
    batch={**PROMPTS["batch"], "image": [picture(0), picture(1)]},
    singles=[{"prompt": prompt, "image": picture(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])],
    embeddings=embeddings,
    field="images",
    bfloat16_error=0.12,
)
ZERO = Case(
    name="Text2Video-Zero",
    pipeline="TextToVideoZeroPipeline",
    make=lambda: filmstrip.TextToVideoZeroPipeline(**parts()),
    call={**CALL, "video_length": 3, "num_inference_steps": 4, "t0": 1, "t1": 2},
    variations={
        **COMMON,
        "num_inference_steps": [changes(5), raises(0, "num_inference_steps")],
        "video_length": [changes(4), raises(0, "video_length")],
        "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
        "motion_field_strength_x": changes(200),
        "motion_field_strength_y": changes(-200),
        "callback": [shown_by("test_an_old_callback_is_called_at_every_so_many_steps"), raises(7, "callback must be")],
        "callback_steps": [
            shown_by("test_an_old_callback_is_called_at_every_so_many_steps"),
            raises(0, "callback_steps"),
        ],
        "t0": [changes(0), raises(2, "0 <= t0 < t1 < 4")],
        "t1": [changes(3), raises(4, "0 <= t0 < t1 < 4")],
        "frame_ids": [changes([0, 40, 80]), raises([0, 1], "frame_ids has 2 places for a video_length of 3")],
    },
    output_type="np",
    field="images",
    bfloat16_error=0.12,
    extra_steps=1,
    **PROMPTS,
)
CLIPS = [[picture(seed), picture(seed + 10)] for seed in (0, 1)]
OF_CLIPS: dict[str, Any] = {
    **{name: said for name, said in COMMON.items() if name != "cross_attention_kwargs"},
    **{name: PICTURES[name] for name in ("prompt_embeds", "negative_prompt_embeds", "negative_prompt")},
    "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
}
VIDEO_BY_CONTROL = Case(
    name="Text2Video-Zero with ControlNet",
    pipeline="TextToVideoZeroControlNetPipeline",
    make=lambda: filmstrip.TextToVideoZeroControlNetPipeline(**parts(), controlnet=controlnet(0)),
    call={**CALL, "control_video": CLIPS[0]},
    variations={
        **OF_CLIPS,
        **{
            name: said
            for name, said in CONTROLLED.variations.items()
            if name in ("timesteps", "sigmas", "clip_skip", "guess_mode") or "control" in name
        },
        "control_video": [
            changes(CLIPS[1]),
            changes([*CLIPS[0], picture(20)]),
            raises(None, "nothing was given; pass it as control_video"),
            raises(CLIPS, "2 control videos were given for 1 prompts"),
        ],
    },
    batch={**PROMPTS["batch"], "control_video": CLIPS},
    singles=[{"prompt": prompt, "control_video": CLIPS[i]} for i, prompt in enumerate(PROMPTS["batch"]["prompt"])],
    embeddings=embeddings,
    field="images",
    bfloat16_error=0.12,
)
VIDEO_CHANGED = Case(
    name="Text2Video-Zero with InstructPix2Pix",
    pipeline="TextToVideoZeroInstructPix2PixPipeline",
    make=lambda: filmstrip.TextToVideoZeroInstructPix2PixPipeline(**parts(in_channels=8)),
    call={**CALL, "video": CLIPS[0]},
    variations={
        **OF_CLIPS,
        "base_noise_share": [
            changes(0.5),
            raises(0.5, "base_noise_share has no effect with latents", latents=normal(1, 2, 4, 8, 8)),
        ],
        "latents": [changes(normal(1, 2, 4, 8, 8)), raises(normal(1, 4, 8, 8), "latents must have the shape")],
        "video": [changes(CLIPS[1]), raises(None, "none was given"), raises(CLIPS, "2 clips were given for 1 prompts")],
        "image_guidance_scale": CHANGED.variations["image_guidance_scale"],
    },
    batch={**PROMPTS["batch"], "video": CLIPS},
    singles=[{"prompt": prompt, "video": CLIPS[index]} for index, prompt in enumerate(PROMPTS["batch"]["prompt"])],
    embeddings=embeddings,
    field="images",
    bfloat16_error=0.12,
)
XL_EMBEDS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


def xl_embeds(seed: int) -> dict[str, torch.Tensor]:
    sizes = ((1, WINDOW, 40), (1, WINDOW, 40), (1, 8), (1, 8))
    return {name: normal(*size, seed=seed + i) for i, (name, size) in enumerate(zip(XL_EMBEDS, sizes, strict=True))}


def xl_embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    encoded = pipeline.encode_prompt(call["prompt"], negative_prompt=call.get("negative_prompt"))
    return {"prompt": None, "negative_prompt": None, **dict(zip(XL_EMBEDS, encoded, strict=True))}


XL_GIVEN = {"prompt": None, **xl_embeds(0)}
XL = Case(
    name="Text2Video-Zero XL",
    pipeline="TextToVideoZeroSDXLPipeline",
    make=lambda: filmstrip.TextToVideoZeroSDXLPipeline(**xl_parts()),
    call=ZERO.call,
    variations={
        **ZERO.variations,
        "prompt_2": changes("two dogs in the rain"),
        "negative_prompt_2": changes("blurry"),
        "denoising_end": [changes(0.8), raises(1.5, "denoising_end must be")],
        "prompt_embeds": [
            changes(normal(1, WINDOW, 40, seed=9), **XL_GIVEN),
            raises(XL_GIVEN["prompt_embeds"], "Both prompt and prompt_embeds"),
        ],
        "negative_prompt_embeds": changes(normal(1, WINDOW, 40, seed=9), **XL_GIVEN),
        "pooled_prompt_embeds": changes(normal(1, 8, seed=9), **XL_GIVEN),
        "negative_pooled_prompt_embeds": changes(normal(1, 8, seed=9), **XL_GIVEN),
        "guidance_rescale": [changes(0.7), raises(1.5, "between 0 and 1")],
        "original_size": changes((64, 64)),
        "crops_coords_top_left": changes((8, 8)),
        "target_size": changes((64, 64)),
        "clip_skip": changes(1),
    },
    embeddings=xl_embeddings,
    output_type="np",
    field="images",
    extra_steps=1,
    bfloat16_error=0.12,
    **PROMPTS,
)
CASES = [TEXT, CONTROLLED, CHANGED, ZERO, XL, VIDEO_BY_CONTROL, VIDEO_CHANGED]
