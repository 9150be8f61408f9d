"""The pipeline of Stable Video Diffusion."""

from __future__ import annotations

import numpy as np
import torch

import filmstrip
from tests.contract.registered import Case, changes, raises, shown_by
from tests.models.ltx.cases import normal
from tests.tiny_stable_video_diffusion import parts, picture

CALL = {
    "image": picture(0),
    "height": 16,
    "width": 24,
    "num_frames": 4,
    "num_inference_steps": 2,
}
CLIP = normal(1, 3, 4, 8, 12)
VARIATIONS = {
    "generator": shown_by("test_the_seed_decides_the_video"),
    "output_type": shown_by("test_output_types_agree"),
    "return_dict": shown_by("test_the_result_can_be_unpacked"),
    "image": [
        changes(picture(1)),
        changes(np.zeros((20, 30, 3), np.uint8)),
        changes(torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))),
        raises(None, "needs an image"),
        raises([], "no picture was given"),
        raises("picture.png", "a picture must be"),
        raises(np.full((8, 8, 3), np.nan), "picture"),
    ],
    "height": [changes(24), raises(17, "use 16 or 18"), raises(0, "height")],
    "width": [changes(16), raises(25, "use 24 or 26"), raises(0, "width")],
    "num_frames": [changes(5), changes(1), raises(0, "num_frames"), raises(2.5, "num_frames")],
    "num_inference_steps": [
        changes(3),
        raises(0, "num_inference_steps"),
        raises(3, "num_inference_steps", sigmas=[80.0, 1.0]),
    ],
    "sigmas": [changes([80.0, 1.0]), raises([1.0, 80.0], "must fall")],
    "min_guidance_scale": [changes(2.0), changes(4.0)],
    "max_guidance_scale": [changes(1.0), changes(7.5)],
    "base_noise_share": [changes(0.5), raises(1.5, "between 0 and 1")],
    "fps": [changes(24), raises(0.5, "fps must be at least 1"), raises(0, "fps must be at least 1")],
    "motion_bucket_id": [changes(10), changes(300)],
    "noise_aug_strength": [changes(0.5), changes(0.0), raises(-0.1, "noise_aug_strength must be at least 0")],
    "decode_chunk_size": [changes(2), raises(0, "decode_chunk_size")],
    "decode_overlap": [
        changes(1, decode_chunk_size=1),
        raises(1, "no effect without decode_chunk_size"),
        raises(-1, "decode_overlap", decode_chunk_size=2),
    ],
    "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
    "continue_from": [
        changes(CLIP),
        changes(CLIP.flip(1), image=None, continue_from=CLIP),
        raises(normal(1, 3, 4, 4, 4), "continue_from must have the shape"),
        raises(CLIP[0], "continue_from must have the shape"),
        raises(CLIP.expand(3, -1, -1, -1, -1), "3 clips to go on from", image=[picture(0), picture(1)]),
    ],
    "latents": [changes(normal(1, 4, 4, 8, 12)), raises(normal(1, 4, 1, 1, 1), "latents must have the shape")],
    "callback_on_step_end": [
        shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
        raises(7, "callback_on_step_end"),
    ],
    "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
    "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
}


CASES = [
    Case(
        name="Stable Video Diffusion",
        pipeline="StableVideoDiffusionPipeline",
        make=lambda: filmstrip.StableVideoDiffusionPipeline(**parts()),
        call=CALL,
        variations=VARIATIONS,
        batch={"image": [picture(0), picture(1)]},
        singles=[{"image": picture(0)}, {"image": picture(1)}],
        guidance="max_guidance_scale",
        bfloat16_error=0.08,
    ),
]
