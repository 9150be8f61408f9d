"""The toy's cases of the contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import filmstrip
from tests import tiny
from tests.contract.registered import Case, changes, raises, shown_by
from tests.parity.references import randomise

TOKENS = 24


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make() -> Any:
    """The pipeline with random weights."""
    torch.manual_seed(0)
    return filmstrip.ToyPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=randomise(tiny.text_encoder()),
        vae=randomise(filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER, sample_size=64), spread=0.1),
        transformer=randomise(filmstrip.ToyTransformer(), spread=0.1),
        transformer_2=randomise(filmstrip.ToyTransformer(), spread=0.1),
        scheduler=filmstrip.DDIMScheduler(clip_sample=False),
    )


def embeddings(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    texts = [call["prompt"]] if isinstance(call["prompt"], str) else call["prompt"]
    with torch.no_grad():
        positive = pipeline._encode_texts(texts, TOKENS).prompt_embeds
        negative = pipeline._encode_texts([call.get("negative_prompt") or ""] * len(texts), TOKENS).prompt_embeds
    return {"prompt": None, "negative_prompt": None, "prompt_embeds": positive, "negative_prompt_embeds": negative}


GIVEN = {"prompt": None, "prompt_embeds": normal(1, TOKENS, 16)}
AGAINST = {"negative_prompt_embeds": normal(1, TOKENS, 16, seed=1)}
CASE = Case(
    name="Toy",
    pipeline="ToyPipeline",
    make=make,
    call={"prompt": "a red star spinning", "height": 32, "width": 48, "num_frames": 3, "num_inference_steps": 2},
    variations={
        "generator": shown_by("test_the_seed_decides_the_video"),
        "output_type": shown_by("test_output_types_agree"),
        "return_dict": shown_by("test_the_result_can_be_unpacked"),
        "prompt": changes("two dogs in the rain"),
        "negative_prompt": changes("blurry"),
        "height": [changes(48), raises(33, "use 32 or 34")],
        "width": [changes(32), raises(0, "width")],
        "num_frames": [changes(4), raises(0, "num_frames")],
        "num_inference_steps": [changes(3), raises(0, "num_inference_steps")],
        "guidance_scale": [changes(7.5), changes(1.0)],
        "num_videos_per_prompt": [changes(2), raises(0, "num_videos_per_prompt")],
        "latents": [changes(normal(1, 4, 3, 16, 24)), raises(normal(1, 4, 1, 1, 1), "latents must have the shape")],
        "prompt_embeds": changes(normal(1, TOKENS, 16, seed=2), **GIVEN),
        "negative_prompt_embeds": changes(normal(1, TOKENS, 16, seed=3), **GIVEN, **AGAINST),
        "callback_on_step_end": shown_by("test_a_callback_sees_every_step_and_its_latents_are_used"),
        "callback_on_step_end_tensor_inputs": shown_by("test_a_callback_is_given_the_tensors_it_asks_for"),
        "sequential_guidance": shown_by("test_sequential_guidance_equals_batched_in_smaller_batches"),
    },
    batch={"prompt": ["a cat", "two dogs in the rain"]},
    singles=[{"prompt": "a cat"}, {"prompt": "two dogs in the rain"}],
    embeddings=embeddings,
)
CASES = [CASE]
