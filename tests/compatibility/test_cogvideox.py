"""What code written for Diffusers does with a pipeline of CogVideoX."""

import numpy as np
import pytest
import torch

from filmstrip import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from tests import tiny

CALL = {"prompt": "a red star", "height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 2}


@pytest.fixture
def pipeline():
    torch.manual_seed(0)
    return CogVideoXPipeline(
        scheduler=CogVideoXDDIMScheduler(),
        vae=AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
        transformer=CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER),
    )


def video(pipeline):
    return pipeline(**CALL, generator=torch.Generator().manual_seed(0), output_type="np").frames[0]


def test_fused_projections_make_the_same_video_without_the_three_layers(pipeline):
    called = []
    pipeline.transformer.transformer_blocks[0].attn1.to_k.register_forward_hook(lambda *_: called.append(True))
    apart = video(pipeline)
    assert called
    called.clear()
    pipeline.fuse_qkv_projections()
    np.testing.assert_allclose(video(pipeline), apart, atol=1e-5)
    assert not called
    pipeline.unfuse_qkv_projections()
    np.testing.assert_array_equal(video(pipeline), apart)
    assert called


def test_prompts_are_encoded_without_the_networks_and_videos_made_without_the_text_encoder(pipeline):
    texts = {"tokenizer": pipeline.tokenizer, "text_encoder": pipeline.text_encoder}
    networks = {"vae": pipeline.vae, "transformer": pipeline.transformer}
    encoder = CogVideoXPipeline(**texts, **dict.fromkeys(networks), scheduler=pipeline.scheduler)
    maker = CogVideoXPipeline(**networks, **dict.fromkeys(texts), scheduler=pipeline.scheduler)
    positive, negative = encoder.encode_prompt("a red star")
    call = {**CALL, "prompt": None, "prompt_embeds": positive, "negative_prompt_embeds": negative}
    made = maker(**call, generator=torch.Generator().manual_seed(0), output_type="np").frames[0]
    np.testing.assert_array_equal(made, video(pipeline))
