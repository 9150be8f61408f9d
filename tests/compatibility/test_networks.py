"""What code written for Diffusers does with a network: read outputs, save and load, train, compile."""

import copy
import logging

import pytest
import torch

from filmstrip import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXLatentUpsamplerModel,
    LTXVideoTransformer3DModel,
)
from tests import tiny

PLAIN_AUTOENCODER = {**tiny.LTX_AUTOENCODER, "patch_size": 1}


def transformer():
    return LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER)


def transformer_inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 16, generator=generator),
        "timestep": torch.tensor([300, 700]),
        "encoder_attention_mask": torch.ones(2, 5, dtype=torch.bool),
        "num_frames": 2,
        "height": 2,
        "width": 2,
    }


def clip():
    return torch.rand(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


NETWORKS = {
    "transformer": (transformer, transformer_inputs),
    "autoencoder": (lambda: AutoencoderKLLTXVideo(**PLAIN_AUTOENCODER), lambda: {"sample": clip()}),
    "timed autoencoder": (
        lambda: AutoencoderKLLTXVideo(**{**tiny.LTX_TIMED_AUTOENCODER, "decoder_inject_noise": (True,) * 4}),
        lambda: {"sample": torch.cat([clip(), clip()], dim=3).repeat(1, 1, 1, 1, 2), "temb": torch.tensor([0.05])},
    ),
}
over_networks = pytest.mark.parametrize(("build", "inputs"), NETWORKS.values(), ids=NETWORKS)


@over_networks
@torch.no_grad()
def test_an_output_is_also_a_dictionary_and_a_tuple(build, inputs):
    torch.manual_seed(0)
    network = build().eval()
    torch.manual_seed(0)
    output = network(**inputs())
    torch.manual_seed(0)
    (plain,) = network(**inputs(), return_dict=False)
    assert isinstance(output, dict)
    assert list(output) == ["sample"]
    for same in (output.sample, output["sample"], output[0], output.to_tuple()[0], *output.values()):
        assert torch.equal(same, plain)


def test_an_output_keeps_its_names_and_keys_alike():
    output = transformer()(**transformer_inputs())
    output.sample = 1
    assert output["sample"] == output[0] == 1
    output["sample"] = 2
    assert output.sample == output[0] == 2


@over_networks
def test_gradient_checkpointing_gives_the_same_gradients(build, inputs):
    network = build()
    recomputing = copy.deepcopy(network)
    recomputing.enable_gradient_checkpointing()
    assert recomputing.is_gradient_checkpointing
    assert not network.is_gradient_checkpointing
    kept = []
    for each in (network, recomputing):
        saved = []
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, to=saved: to.append(tensor) or tensor, lambda t: t
        ):
            loss = each(**inputs()).sample.square().mean()
        loss.backward()
        kept.append(len(saved))
    assert kept[1] < kept[0], "the blocks still keep their intermediate results"
    for (name, plain), again in zip(network.named_parameters(), recomputing.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(again.grad, plain.grad, msg=name)


def test_gradient_checkpointing_can_be_switched_off_again():
    network = transformer()
    network.enable_gradient_checkpointing()
    network.disable_gradient_checkpointing()
    assert not network.is_gradient_checkpointing


def test_gradient_checkpointing_leaves_inference_alone():
    network = transformer().eval()
    with torch.no_grad():
        plain = network(**transformer_inputs()).sample
        network.enable_gradient_checkpointing()
        assert torch.equal(network(**transformer_inputs()).sample, plain)


def test_a_network_without_such_blocks_says_so():
    upsampler = LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)
    with pytest.raises(ValueError, match="LTXLatentUpsamplerModel has no blocks"):
        upsampler.enable_gradient_checkpointing()
    with pytest.raises(ValueError, match="repeats no block"):
        upsampler.compile_repeated_blocks()


def test_repeated_blocks_are_compiled_and_give_the_same(monkeypatch):
    network = transformer().eval()
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **settings: compiled.append((module, settings)))
    network.compile_repeated_blocks(fullgraph=True)
    assert compiled == [(block, {"fullgraph": True}) for block in network.transformer_blocks]


@torch.no_grad()
def test_an_output_does_not_break_the_compiled_graph():
    network = transformer().eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**transformer_inputs()).sample, network(**transformer_inputs()).sample)


def test_loading_takes_the_arguments_that_change_nothing_here(tmp_path):
    network = transformer()
    network.save_pretrained(tmp_path)
    loaded = LTXVideoTransformer3DModel.from_pretrained(tmp_path, use_safetensors=True, low_cpu_mem_usage=False)
    assert torch.equal(loaded.proj_in.weight, network.proj_in.weight)


def test_asked_for_pickled_files_it_writes_safetensors_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        transformer().save_pretrained(tmp_path, safe_serialization=False)
    assert "safetensors" in caplog.text
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("build", [transformer, FlowMatchEulerDiscreteScheduler])
def test_registered_values_are_recorded_and_saved(build, tmp_path):
    item = build()
    before = dict(item.config)
    item.register_to_config(extra=5)
    assert item.config.extra == 5
    item.save_config(tmp_path)
    assert type(item).load_config(tmp_path)["extra"] == 5
    assert type(item).from_config(item.config).config == before


def test_a_registered_value_counts_as_chosen():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.register_to_config(shift=3.0)
    assert FlowMatchEulerDiscreteScheduler.from_config(scheduler.config).shift == 3.0
