"""Repositories of Stable Diffusion load as they are published, with parts that nothing here uses."""

import json

import pytest
import torch
from safetensors.torch import load_file

import filmstrip
from tests.tiny_stable_diffusion import parts, xl_parts

PUBLISHED = {
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint whose index lists parts that have folders without anything that could be loaded."""
    filmstrip.StableDiffusionPipeline(**parts()).save_pretrained(tmp_path)
    path = tmp_path / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, **PUBLISHED, "requires_safety_checker": True}))
    for name in PUBLISHED:
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["Pipeline", "StableDiffusionPipeline", "TextToVideoZeroPipeline"])
def test_parts_that_nothing_uses_are_left_out_and_named(folder, name, caplog):
    pipeline = getattr(filmstrip, name).from_pretrained(folder)
    assert all(pipeline.components[part] is None for part in PUBLISHED)
    assert "safety_checker and feature_extractor and image_encoder left out" in caplog.text
    assert pipeline.requires_safety_checker
    assert pipeline("a cat", num_inference_steps=2, output_type="pt").images.shape[-3:] == (3, 16, 16)


@pytest.mark.parametrize("type_asked_for", [None, torch.bfloat16], ids=["mapped", "read"])
def test_weights_of_a_unet_are_laid_out_as_convolutions_read_them_and_saved_as_others_do(
    folder, type_asked_for, tmp_path
):
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    unet = filmstrip.UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=type_asked_for)
    kernels = {name: one for name, one in unet.named_parameters() if one.dim() == 4}
    assert kernels
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels.values())
    unet.save_pretrained(tmp_path / "again")
    saved = load_file(tmp_path / "again" / "diffusion_pytorch_model.safetensors")
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[name], one.to(unet.dtype)) for name, one in weights.items())


def test_what_is_left_out_by_the_user_is_not_named(folder, caplog):
    without = {"safety_checker": None, "requires_safety_checker": False}
    pipeline = filmstrip.StableDiffusionPipeline.from_pretrained(folder, **without)
    assert ": feature_extractor and image_encoder left out" in caplog.text
    assert not pipeline.requires_safety_checker


def test_parts_that_are_brought_along_are_kept(folder):
    extractor = object()
    pipeline = filmstrip.StableDiffusionPipeline.from_pretrained(folder, feature_extractor=extractor)
    assert pipeline.feature_extractor is extractor


def test_a_safety_checker_that_is_brought_along_is_not_used(caplog):
    pipeline = filmstrip.StableDiffusionPipeline(**parts(), safety_checker=object())
    assert pipeline.safety_checker is None
    assert "the safety checker is left out" in caplog.text


def test_a_repository_of_the_large_model_makes_videos(tmp_path):
    filmstrip.TextToVideoZeroSDXLPipeline(**xl_parts()).save_pretrained(tmp_path)
    path = tmp_path / "model_index.json"
    index = json.loads(path.read_text())
    published = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": False}
    path.write_text(json.dumps({**index, **published}))
    pipeline = filmstrip.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(pipeline) is filmstrip.TextToVideoZeroSDXLPipeline
    assert not pipeline.force_zeros_for_empty_prompt
