"""What code written for Diffusers does with a pipeline: load and save with its arguments, and draw progress."""

import logging
import re

import pytest
import torch

from filmstrip import (
    AutoencoderKLLTXVideo,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from tests import tiny

CALL = {"prompt": "a red star", "height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
        transformer=LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
    )


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint")
    pipeline.save_pretrained(path)
    return path


def dtypes(pipeline):
    return {name: network.dtype for name, network in pipeline.networks.items()}


def test_a_dictionary_gives_each_component_its_type(folder):
    types = {"transformer": torch.bfloat16, "default": "float64"}
    assert dtypes(LTXPipeline.from_pretrained(folder, torch_dtype=types)) == {
        "vae": torch.float64,
        "text_encoder": torch.float64,
        "transformer": torch.bfloat16,
    }


def test_without_a_default_the_other_components_keep_their_files_type(folder):
    loaded = DiffusionPipeline.from_pretrained(folder, torch_dtype={"vae": torch.bfloat16})
    assert dtypes(loaded) == {"vae": torch.bfloat16, "text_encoder": torch.float32, "transformer": torch.float32}


def test_a_type_for_a_component_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match=r"names unet; the checkpoint has scheduler, .*and 'default'"):
        LTXPipeline.from_pretrained(folder, torch_dtype={"unet": torch.bfloat16})


def test_a_variant_that_no_component_has_is_refused(folder):
    with pytest.raises(ValueError, match="'fp16'"):
        LTXPipeline.from_pretrained(folder, variant="fp16")


def test_loading_takes_the_arguments_that_change_nothing_here(folder, pipeline):
    loaded = LTXPipeline.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=True)
    assert torch.equal(loaded.transformer.proj_in.weight, pipeline.transformer.proj_in.weight)


def test_asked_for_pickled_files_it_writes_safetensors_and_says_so(pipeline, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        pipeline.save_pretrained(tmp_path, safe_serialization=False)
    assert "safetensors" in caplog.text
    assert not list(tmp_path.rglob("*.bin"))


def test_an_unknown_argument_of_saving_is_an_error(pipeline, tmp_path):
    with pytest.raises(TypeError, match="push_to_hub"):
        pipeline.save_pretrained(tmp_path, push_to_hub=True)


def test_each_component_that_is_loaded_is_logged(folder, caplog):
    with caplog.at_level(logging.INFO, logger="filmstrip"):
        LTXPipeline.from_pretrained(folder)
    for name in LTXPipeline.component_names():
        assert f"loaded {name} " in caplog.text


def test_an_optional_component_may_be_missing_from_the_index(folder):
    class WithEncoder(LTXPipeline):
        _optional_components = ("image_encoder",)

        def __init__(self, scheduler, vae, text_encoder, tokenizer, transformer, image_encoder):
            super().__init__(scheduler, vae, text_encoder, tokenizer, transformer)
            self.image_encoder = image_encoder

    assert WithEncoder.from_pretrained(folder).image_encoder is None


def test_a_call_ends_with_a_full_bar_on_stderr(pipeline, capsys):
    pipeline.set_progress_bar_config(desc="steps")
    pipeline(**CALL)
    out, err = capsys.readouterr()
    assert re.search(r"^steps .* 3/3 ", err, re.MULTILINE)
    assert err.count("\n") == 1, "one line, however many runs of frames are decoded"
    assert out == ""


@pytest.mark.parametrize("disable", [True, None])
def test_a_disabled_bar_and_one_for_terminals_only_leave_a_log_clean(pipeline, capsys, disable):
    pipeline.set_progress_bar_config(disable=disable)
    pipeline(**CALL)
    assert capsys.readouterr().err == ""


def test_an_unknown_setting_of_the_bar_is_an_error(pipeline):
    with pytest.raises(TypeError, match="colour"):
        pipeline.set_progress_bar_config(colour="green")


def test_attention_slicing_changes_no_frame(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    plain = pipeline(**CALL, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    pipeline.enable_attention_slicing("auto")
    sliced = pipeline(**CALL, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    pipeline.disable_attention_slicing()
    assert torch.equal(sliced, plain)


def frames(pipeline, **arguments):
    generator = torch.Generator().manual_seed(0)
    return pipeline(**{**CALL, **arguments}, generator=generator, output_type="pt").frames


def test_embeddings_made_without_the_networks_serve_a_pipeline_without_an_encoder(pipeline):
    parts = dict.fromkeys(LTXPipeline.component_names())
    encoder = LTXPipeline(**{**parts, "text_encoder": pipeline.text_encoder, "tokenizer": pipeline.tokenizer})
    names = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
    embeds = dict(zip(names, encoder.encode_prompt(CALL["prompt"], "dull"), strict=True))
    rest = LTXPipeline(**{**pipeline.components, "text_encoder": None, "tokenizer": None})
    rest.set_progress_bar_config(disable=True)
    torch.testing.assert_close(frames(rest, prompt=None, **embeds), frames(pipeline, negative_prompt="dull"))


def test_encoding_passes_embeddings_on_in_the_type_that_is_wanted(pipeline):
    embeds, mask, negative, negative_mask = pipeline.encode_prompt("a red star", num_videos_per_prompt=1)
    again = pipeline.encode_prompt(
        prompt_embeds=embeds,
        prompt_attention_mask=mask,
        negative_prompt_embeds=negative,
        negative_prompt_attention_mask=negative_mask,
        num_videos_per_prompt=2,
        device="cpu",
        dtype=torch.bfloat16,
    )
    assert torch.equal(again[0], embeds.repeat(2, 1, 1).bfloat16())
    assert torch.equal(again[1], mask.repeat(2, 1))
    assert torch.equal(again[2], negative.repeat(2, 1, 1).bfloat16())
    assert pipeline.encode_prompt("a red star", None, False)[2:] == (None, None)


def test_a_callback_may_change_the_guidance_scale(pipeline):
    seen = []

    def set_to(scale):
        def callback(view, step, timestep, tensors):
            view._guidance_scale = scale
            seen.append((view.guidance_scale, view.do_classifier_free_guidance))
            return tensors

        return callback

    plain = frames(pipeline, guidance_scale=3.0)
    assert torch.equal(frames(pipeline, guidance_scale=3.0, callback_on_step_end=set_to(3.0)), plain)
    stronger = frames(pipeline, guidance_scale=3.0, callback_on_step_end=set_to(9.0))
    unguided = frames(pipeline, guidance_scale=3.0, callback_on_step_end=set_to(1.0))
    assert not torch.equal(stronger, plain)
    assert not torch.equal(unguided, plain)
    assert set(seen) == {(3.0, True), (9.0, True), (1.0, False)}
    with pytest.raises(ValueError, match="began without guidance"):
        frames(pipeline, guidance_scale=1.0, callback_on_step_end=set_to(9.0))


def test_the_state_of_a_call_is_not_left_on_the_pipeline(pipeline):
    counts = []
    frames(pipeline, callback_on_step_end=lambda view, *_: counts.append(view.num_timesteps))
    assert counts == [3, 3, 3]
    assert not hasattr(pipeline, "num_timesteps")
    assert not hasattr(pipeline, "guidance_scale")
