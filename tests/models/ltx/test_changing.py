"""Changing a video: it is given as a clip or as its latents."""

from types import SimpleNamespace

import torch

from filmstrip.media.pixels import preprocess_video
from filmstrip.randomness import draw_noise
from tests.contract.registered import CASES
from tests.contract.runs import request, seeded, shared, video


def test_a_clip_to_change_is_as_good_as_its_latents():
    case = next(case for case in CASES if case.pipeline == "LTXConditionPipeline")
    pipeline = shared(case.name)
    clip = torch.rand(9, 3, 64, 64, generator=seeded())
    changing = {"image": None, "num_inference_steps": 4, "denoise_strength": 0.5}
    from_clip = video(case, **changing, video=clip)

    generator = seeded()
    draw_noise(pipeline.latent_shape(request(case)), generator)  # a run draws its noise before it encodes
    with torch.no_grad():
        session = SimpleNamespace(generator=generator, coding=None)
        latents = pipeline.encode_video(preprocess_video(clip, 64, 64), session)
    torch.testing.assert_close(video(case, **changing, latents=latents), from_clip)
