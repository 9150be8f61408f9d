"""The pipelines of CogVideoX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

import filmstrip
from tests import tiny
from tests.contract.registered import Case, changes, raises, shown_by
from tests.models.ltx.cases import clip, normal, picture
from tests.parity.references import randomise

EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
TOKENS = tiny.COGVIDEOX_TRANSFORMER["max_text_seq_length"]


def parts(settings: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """Components with random weights."""
    torch.manual_seed(0)
    return {
        "tokenizer": tiny.tokenizer(),
        "text_encoder": randomise(tiny.text_encoder()),
        "vae": randomise(filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER), spread=0.03),
        "transformer": randomise(filmstrip.CogVideoXTransformer3DModel(**settings), spread=0.05),
        "scheduler": getattr(filmstrip, scheduler)(),
    }


def embeds(seed: int, tokens: int = TOKENS) -> torch.Tensor:
    return normal(1, tokens, 16, seed=seed)


def small_clip(seed: int, num_frames: int = 9) -> list[Image.Image]:
    return [frame.resize((24, 20)) for frame in clip(seed, num_frames)]


CALL = {
    "prompt": "a red star spinning",
    "height": 32,
    "width": 48,
    "num_frames": 9,
    "num_inference_steps": 2,
    "guidance_scale": 2.0,
    "max_sequence_length": TOKENS,
}
CLIP_CALL = {name: value for name, value in CALL.items() if name != "num_frames"}
GIVEN = {"prompt": None, "prompt_embeds": embeds(0)}
GIVEN_NEGATIVE = {"negative_prompt_embeds": embeds(1)}
PROMPTS: dict[str, Any] = {
    "batch": {"prompt": ["a cat", "two dogs in the rain"]},
    "singles": [{"prompt": "a cat"}, {"prompt": "two dogs in the rain"}],
}


def variations(*, ddim: bool, latents: tuple[int, ...]) -> dict[str, Any]:
    """What the arguments do that all calls have."""
    eta = [changes(0.5)] if ddim else [raises(0.5, "eta has no effect with CogVideoXDPMScheduler")]
    return {
        "generator": shown_by("test_the_seed_decides_the_video"),
        "output_type": shown_by("test_output_types_agree"),
        "return_dict": shown_by("test_the_result_can_be_unpacked"),
        "prompt": changes("two dogs in the rain"),
        "negative_prompt": [
            changes("blurry"),
            raises("blurry", "Both", **GIVEN_NEGATIVE),
            raises(["blurry", "dull"], "2 negative prompts"),
        ],
        "height": [changes(48), raises(40, "use 32 or 48"), raises(0, "height")],
        "width": [changes(32), raises(56, "use 48 or 64"), raises(0, "width")],
        "num_frames": [changes(17), changes(12), raises(0, "num_frames"), raises(9.5, "num_frames")],
        "num_inference_steps": [
            changes(3),
            raises(0, "num_inference_steps"),
            raises(3, "timesteps", timesteps=[900, 400]),
        ],
        "timesteps": [changes([900, 400]), raises([400, 900], "must fall")],
        "guidance_scale": [changes(7.5), changes(1.0)],
        "use_dynamic_cfg": [
            changes(True),
            changes("timestep", use_dynamic_cfg=True),
            raises("steps", "use_dynamic_cfg must be"),
        ],
        "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
        "eta": eta,
        "latents": [changes(normal(1, *latents)), raises(normal(1, 4, 1, 1, 1), "latents must have the shape")],
        "base_noise_share": [
            changes(0.5),
            raises(1.5, "between 0 and 1"),
            raises(0.5, "base_noise_share has no effect with latents", latents=normal(1, *latents)),
        ],
        "prompt_embeds": [changes(embeds(2), **GIVEN), raises(embeds(0), "Both prompt and prompt_embeds")],
        "negative_prompt_embeds": [
            changes(embeds(2), **GIVEN, **GIVEN_NEGATIVE),
            changes(embeds(2), **GIVEN_NEGATIVE),
            raises(embeds(2, 5), "same shape", **GIVEN),
        ],
        "attention_kwargs": raises({"scale": 0.5}, "attention_kwargs has no effect"),
        "callback_on_step_end": [
            shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
            raises(7, "callback_on_step_end"),
        ],
        "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
        "max_sequence_length": [changes(30), raises(0, "max_sequence_length")],
        "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
    }


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_prompt` makes of the prompts of a call."""
    encoded = pipeline.encode_prompt(call["prompt"], call.get("negative_prompt"), max_sequence_length=TOKENS)
    return {"prompt": None, "negative_prompt": None, **dict(zip(EMBEDS, encoded, strict=True))}


def but(said: Mapping[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    """The variations without some, and with others."""
    return {**{name: value for name, value in said.items() if name not in names}, **more}


SINE = tiny.COGVIDEOX_TRANSFORMER
ROTARY = {**SINE, "use_rotary_positional_embeddings": True, "num_attention_heads": 3}
PAIRED = {**ROTARY, "in_channels": 8}
TEXT_1_5 = {**tiny.COGVIDEOX_1_5_TRANSFORMER, "ofs_embed_dim": None}
IMAGE_1_5 = {**tiny.COGVIDEOX_1_5_TRANSFORMER, "in_channels": 8}
DDIM, DPM = "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"


def text_case(name: str, settings: Mapping[str, Any], scheduler: str, frames: int) -> Case:
    """Text to video."""
    said = variations(ddim=scheduler == DDIM, latents=(frames, 4, 4, 6))
    return Case(
        name=f"CogVideoX text, {name}",
        pipeline="CogVideoXPipeline",
        make=lambda: filmstrip.CogVideoXPipeline(**parts(settings, scheduler)),
        call=CALL,
        variations=said,
        embeddings=embeddings,
        bfloat16_error=0.08,
        **PROMPTS,
    )


def image_case(name: str, settings: Mapping[str, Any], scheduler: str, frames: int) -> Case:
    """Image to video."""
    said = variations(ddim=scheduler == DDIM, latents=(frames, 4, 4, 6))
    image = [
        changes(picture(1)),
        raises(None, "needs an image"),
        raises([picture(0), picture(1)], "2 pictures were given for 1 prompts"),
    ]
    return Case(
        name=f"CogVideoX image, {name}",
        pipeline="CogVideoXImageToVideoPipeline",
        make=lambda: filmstrip.CogVideoXImageToVideoPipeline(**parts(settings, scheduler)),
        call={**CALL, "image": picture(0)},
        variations={**said, "image": image},
        batch={**PROMPTS["batch"], "image": [picture(0), picture(1)]},
        singles=[{"prompt": prompt, "image": picture(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])],
        embeddings=embeddings,
        bfloat16_error=0.08,
    )


def video_case(name: str, settings: Mapping[str, Any], scheduler: str, frames: int) -> Case:
    """Video to video."""
    said = variations(ddim=scheduler == DDIM, latents=(frames, 4, 4, 6))
    from_latents = {"video": None, "latents": normal(1, frames, 4, 4, 6)}
    call = {**CLIP_CALL, "video": small_clip(0), "strength": 1.0}
    return Case(
        name=f"CogVideoX video, {name}",
        pipeline="CogVideoXVideoToVideoPipeline",
        make=lambda: filmstrip.CogVideoXVideoToVideoPipeline(**parts(settings, scheduler)),
        call=call,
        variations=but(
            said,
            "num_frames",
            video=[
                changes(small_clip(1)),
                changes(small_clip(0, 12)),
                raises(None, "from video or from latents"),
                raises([small_clip(0), small_clip(1)], "2 videos were given for 1 prompts"),
            ],
            base_noise_share=[
                changes(0.5),
                raises(0.5, "base_noise_share has no effect with latents", **from_latents),
            ],
            strength=[changes(0.5), raises(1.5, "between 0 and 1"), raises(0.1, "leaves none of 2 steps")],
            latents=[
                changes(normal(1, frames, 4, 4, 6, seed=1), **from_latents),
                raises(normal(1, frames, 4, 4, 6), "from video or from latents"),
                raises(normal(1, 4, 1, 1, 1), "latents must have the shape", video=None),
            ],
        ),
        batch={**PROMPTS["batch"], "video": [small_clip(0), small_clip(1)]},
        singles=[
            {"prompt": prompt, "video": small_clip(seed)} for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])
        ],
        embeddings=embeddings,
        bfloat16_error=0.08,
    )


def control_case() -> Case:
    """Text and a control video to video."""
    said = variations(ddim=True, latents=(3, 4, 4, 6))
    from_latents = {"control_video": None, "control_video_latents": normal(1, 4, 3, 4, 6)}
    return Case(
        name="CogVideoX control",
        pipeline="CogVideoXFunControlPipeline",
        make=lambda: filmstrip.CogVideoXFunControlPipeline(**parts(PAIRED, DDIM)),
        call={**CLIP_CALL, "control_video": small_clip(0)},
        variations=but(
            said,
            "num_frames",
            control_video=[
                changes(small_clip(1)),
                changes(small_clip(0, 12)),
                raises(None, "from control_video or from control_video_latents"),
                raises([small_clip(0), small_clip(1)], "2 control videos were given for 1 prompts"),
            ],
            control_video_latents=[
                changes(normal(1, 4, 3, 4, 6, seed=1), **from_latents),
                raises(normal(1, 4, 3, 4, 6), "from control_video or from control_video_latents"),
                raises(normal(1, 3, 4, 4, 6), "control_video_latents must have the shape", control_video=None),
            ],
        ),
        batch={**PROMPTS["batch"], "control_video": [small_clip(0), small_clip(1)]},
        singles=[
            {"prompt": prompt, "control_video": small_clip(seed)}
            for seed, prompt in enumerate(PROMPTS["batch"]["prompt"])
        ],
        embeddings=embeddings,
        bfloat16_error=0.08,
    )


CASES = [
    text_case("sine", SINE, DDIM, 3),
    text_case("1.5", TEXT_1_5, DPM, 4),
    image_case("rotary", PAIRED, DPM, 3),
    image_case("1.5", IMAGE_1_5, DDIM, 4),
    video_case("rotary", ROTARY, DPM, 3),
    video_case("1.5", TEXT_1_5, DDIM, 2),
    control_case(),
]
