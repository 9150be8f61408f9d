"""What pipelines of Stable Diffusion make of their components."""

import pytest
import torch

import filmstrip
from tests.contract.runs import seeded
from tests.tiny_stable_diffusion import controlnet, parts

CALL = {"num_inference_steps": 2, "output_type": "pt"}


def test_another_network_brings_its_size():
    pipeline = filmstrip.StableDiffusionPipeline(**parts())
    pipeline.defaults["guidance_scale"] = 3.0
    assert pipeline("a cat", **CALL).images.shape == (1, 3, 16, 16)
    for sample_size, size in ((4, (8, 8)), ((4, 12), (8, 24))):
        pipeline.unet = filmstrip.UNet2DConditionModel.from_config(pipeline.unet.config, sample_size=sample_size)
        assert pipeline("a cat", **CALL).images.shape[-2:] == size
    assert pipeline.defaults["guidance_scale"] == 3.0


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "TextToVideoZeroPipeline"])
def test_a_text_without_an_encoder_is_refused_and_embeddings_are_not(name):
    encoder = filmstrip.StableDiffusionPipeline(**parts())
    positive, negative = encoder.encode_prompt("a cat")
    without = {**parts(), "tokenizer": None, "text_encoder": None}
    pipeline = getattr(filmstrip, name)(**without)
    with pytest.raises(ValueError, match="has no text_encoder"):
        pipeline("a cat", **CALL)
    if name == "StableDiffusionPipeline":
        made = pipeline(prompt_embeds=positive, negative_prompt_embeds=negative, **CALL, generator=seeded())
        assert torch.equal(made.images, encoder("a cat", **CALL, generator=seeded()).images)


def test_several_controlnets_are_saved_beside_each_other(tmp_path):
    nets = [controlnet(seed) for seed in (0, 1)]
    pipeline = filmstrip.StableDiffusionControlNetPipeline(**parts(), controlnet=nets)
    pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "controlnet_1" / "config.json").is_file()
    loaded = filmstrip.Pipeline.from_pretrained(tmp_path)
    pictures = list(torch.rand(2, 1, 3, 16, 16, generator=seeded()))
    made = [one("a cat", pictures, **CALL, generator=seeded()).images for one in (pipeline, loaded)]
    torch.testing.assert_close(made[0], made[1], rtol=1e-5, atol=1e-5)
    outline = filmstrip.Pipeline.outline(tmp_path)
    assert [net.num_parameters() for net in outline.nets] == [net.num_parameters() for net in nets]
    assert len(filmstrip.MultiControlNetModel.from_pretrained(tmp_path / "controlnet").nets) == 2
    loaded.to(torch.bfloat16)
    assert loaded.controlnet.dtype == torch.bfloat16


def test_a_controlnet_of_another_network_is_refused():
    unet = filmstrip.UNet2DConditionModel.from_config(parts()["unet"].config, cross_attention_dim=24)
    pipeline = filmstrip.StableDiffusionControlNetPipeline(**{**parts(), "unet": unet}, controlnet=controlnet(0))
    with pytest.raises(ValueError, match="made for another U-Net: its cross_attention_dim is 16, not 24"):
        pipeline("a cat", torch.rand(1, 3, 16, 16), **CALL)
    pipeline.controlnet = unet
    with pytest.raises(ValueError, match="must be a ControlNetModel, got a UNet2DConditionModel"):
        pipeline("a cat", torch.rand(1, 3, 16, 16), **CALL)


def test_a_network_for_another_task_is_refused():
    pipeline = filmstrip.StableDiffusionPipeline(**parts(in_channels=8))
    with pytest.raises(ValueError, match="its U-Net takes 8 channels, and StableDiffusionPipeline gives it 4"):
        pipeline("a cat", **CALL)


@pytest.mark.parametrize("joint", [True, False], ids=["prompts together", "prompts in turn"])
def test_a_run_projects_its_prompt_once_and_forgets_it(joint):
    pipeline = filmstrip.StableDiffusionControlNetPipeline(**parts(), controlnet=controlnet(1))
    calls = []
    for network in (pipeline.unet, pipeline.controlnet):
        first = next(module for module in network.modules() if getattr(module, "reads_prompt", False))
        first.to_k.register_forward_hook(lambda layer, *_: calls.append(layer))
    control = torch.rand(1, 3, 16, 16)
    for _ in range(2):
        calls.clear()
        pipeline("a cat", control, sequential_guidance=not joint, **{**CALL, "num_inference_steps": 4})
        assert len(calls) == (2 if joint else 4)  # for each of two networks, and not for each of four steps


@pytest.mark.parametrize("types", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_a_controlnet_may_be_of_another_type_than_the_unet(types, count):
    of_network, of_control = types
    nets = [controlnet(seed).to(of_control if seed == 0 else torch.float32) for seed in range(count)]
    pipeline = filmstrip.StableDiffusionControlNetPipeline(**parts(), controlnet=nets if count > 1 else nets[0])
    for name in ("vae", "text_encoder", "unet"):
        pipeline.components[name].to(of_network)
    pictures = list(torch.rand(count, 1, 3, 16, 16, generator=seeded()))
    made = pipeline("a cat", pictures if count > 1 else pictures[0], **CALL, generator=seeded())
    assert torch.isfinite(torch.as_tensor(made.images)).all()
