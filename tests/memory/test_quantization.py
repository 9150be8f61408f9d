"""Weights in 8 and 4 bits."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

import filmstrip
from filmstrip.checkpoints.component import save_component
from filmstrip.fitting.ledger import without_values
from filmstrip.fitting.search import nbytes_of
from filmstrip.memory import quantization
from filmstrip.memory.falling_back import on_cpu
from filmstrip.memory.quantization import KINDS, dequantized, quantization_of, quantize
from filmstrip.memory.sizes import network_bytes
from tests import tiny, tiny_stable_diffusion
from tests.memory.other_device import OTHER, install
from tests.parity.references import randomise

ERRORS = {"int8": 0.01, "fp8": 0.05, "int4": 0.15}
"""Bounds of the relative error of two layers; about twice of what was measured."""


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.body = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        self.odd = nn.Linear(8, 64)
        self.proj_out = nn.Linear(64, 64)

    def forward(self, hidden_states):
        return self.proj_out(self.body(self.norm(hidden_states)))


def weights_of(network):
    return {name: one.weight for name, one in network.named_modules() if isinstance(one, nn.Linear)}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_products_stay_near_and_weights_become_small(kind):
    network, given = Network(), torch.randn(5, 64)
    expected, before = network(given), network_bytes(network)
    report = quantize(network, kind, kept=("^proj_out$",))
    error = float((network(given) - expected).norm() / expected.norm())
    assert 0 < error < ERRORS[kind]
    assert report.layers == ("body.0", "body.2")
    assert report.kept == {"odd": "for their shape", "proj_out": "as sensitive"}
    stored = {"int8": 1.15, "fp8": 1.15, "int4": 0.8}[kind]  # bytes for each weight, scales included
    others = before - 4 * 2 * 64 * 128
    assert report.bytes_before == before
    assert others < report.bytes_after < others + stored * 2 * 64 * 128
    assert quantization_of(network) is report and quantization_of(Network()) is None
    assert str(report).startswith(f"{kind}: 2 of 4 linear layers, 1 kept for their shape, 1 kept as sensitive; ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_the_type_that_computes_stays(kind, dtype):
    network = Network().to(dtype)
    quantize(network, kind)
    assert network(torch.randn(2, 64, dtype=dtype)).dtype == dtype
    assert {tensor.dtype for tensor in network.parameters()} == {dtype}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_numbers_can_be_had_back(kind):
    network = Network()
    before = {name: weight.clone() for name, weight in weights_of(network).items()}
    for name in quantize(network, kind).layers:
        back = dequantized(weights_of(network)[name])
        assert type(back) is torch.Tensor
        assert 0 < float((back - before[name]).norm() / before[name].norm()) < ERRORS[kind]
    given = torch.randn(2, 64)
    torch.testing.assert_close(on_cpu(network)(given), network(given), rtol=0, atol=3e-2 if kind == "int4" else 1e-5)


@torch.no_grad()
def test_tied_weights_are_kept():
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64))
    network[1].weight = network[0].weight
    report = quantize(network, "int8")
    assert report.layers == ("2",)
    assert report.kept == {"0": "as tied to another", "1": "as tied to another"}


def test_when_nothing_would_change_it_is_said():
    with pytest.raises(ValueError, match=r"no weight of Network would become smaller as int8: .* 4 kept as sensitive"):
        quantize(Network(), "int8", kept=(".",))
    with pytest.raises(ValueError, match="it has 0 linear layers"):
        quantize(nn.Sequential(nn.Conv2d(4, 4, 1)), "int8")
    with pytest.raises(ValueError, match="weights are quantised as int8, fp8, int4; got 'int3'"):
        quantize(Network(), "int3")
    with pytest.raises(ValueError, match="int4 needs a device of cpu or cuda, got meta"):
        quantize(Network().to("meta"), "int4")
    network = Network()
    quantize(network, "int8")
    with pytest.raises(ValueError, match="Network is quantised already, as int8"):
        quantize(network, "fp8")


def test_without_torchao_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    network = Network()
    with pytest.raises(ImportError, match=r"pip install 'filmstrip\[quantize\]'"):
        quantize(network, "int8")
    assert quantization_of(network) is None


def test_importing_it_imports_no_torchao():
    code = "import sys, filmstrip.memory.quantization as q; sys.exit(any('torchao' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_quantising_says_nothing_that_its_libraries_say():
    code = "import torch; from filmstrip.memory.quantization import quantize; quantize(torch.nn.Linear(64, 64), 'int8')"
    code = code.replace("quantize(torch", "quantize(torch.nn.Sequential(torch").replace(", 'int8'", "), 'int8'")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def unet():
    return randomise(filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET), spread=0.05)


def test_a_quantised_network_says_what_it_can_t():
    network = unet().to(torch.bfloat16)
    network.quantize("int8")
    assert network.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"is quantised as int8, so it stays in torch\.bfloat16; load it again in"):
        network.to(torch.float32)
    with pytest.raises(ValueError, match="quantised already"):
        network.enable_layerwise_casting()
    other = unet()
    other.enable_layerwise_casting()
    with pytest.raises(ValueError, match="stored in a narrow type already; load it again to quantise it"):
        other.quantize("int8")


def test_a_quantised_network_is_not_saved(tmp_path):
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    pipe.quantize("int8", ["text_encoder", "unet"])
    for name in ("text_encoder", "unet"):
        with pytest.raises(ValueError, match=r"is quantised as int8, so it can't be saved; save it before"):
            save_component(pipe.components[name], tmp_path / name)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_components_are_those_that_denoise_or_are_named():
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    assert pipe.quantized == {}
    assert pipe.quantize("int8").keys() == pipe.quantized.keys() == {"unet"}
    assert pipe.quantize("fp8", "text_encoder").keys() == {"text_encoder"}
    assert {name: report.kind for name, report in pipe.quantized.items()} == {"unet": "int8", "text_encoder": "fp8"}
    with pytest.raises(ValueError, match=r"there is no transformer; components to quantise are some of "):
        pipe.quantize("int8", ["transformer"])
    with pytest.raises(ValueError, match="is quantised as fp8, so it stays as it is; load it in"):
        pipe.to(torch.bfloat16)


def test_nothing_is_quantised_if_one_component_can_t_be():
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    pipe.quantize("int8", "text_encoder")
    with pytest.raises(ValueError, match="quantised already"):
        pipe.quantize("int8", ["unet", "text_encoder"])
    assert pipe.quantized.keys() == {"text_encoder"}


@pytest.mark.parametrize("kind", KINDS)
def test_plans_count_what_is_stored(kind):
    network = unet()
    before = nbytes_of(network.modules())
    report = network.quantize(kind)
    assert before == report.bytes_before
    for one in (network, copy.deepcopy(network), without_values(network)):
        assert nbytes_of(one.modules()) == report.bytes_after < before


def pictures(pipe):
    generator = torch.Generator().manual_seed(0)
    return pipe("a cat", num_inference_steps=2, output_type="pt", generator=generator).images.cpu()


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("call", ["model", "sequential", "blocks"])
@torch.no_grad()
def test_quantised_weights_are_offloaded_as_they_are(kind, call, monkeypatch):
    install(monkeypatch)

    def made():
        pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
        pipe.set_progress_bar_config(disable=True)
        pipe.quantize(kind)
        return pipe

    expected = pictures(made().to(OTHER))
    pipe = made()
    {
        "model": pipe.enable_model_cpu_offload,
        "sequential": pipe.enable_sequential_cpu_offload,
        "blocks": lambda: pipe.enable_group_offload(OTHER),
    }[call]()
    for _ in range(2):
        assert torch.equal(pictures(pipe), expected)
    assert {tensor.device.type for tensor in pipe.unet.parameters()} == {"cpu"}
    with pytest.raises(ValueError, match="offloaded already; call quantize first"):
        pipe.quantize(kind, "text_encoder")


def test_four_bits_stay_where_they_were_packed(monkeypatch):
    install(monkeypatch)
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    pipe.quantize("int4")
    said = "UNet2DConditionModel is quantised as int4, which is packed for cpu, so it can't come to other"
    with pytest.raises(ValueError, match=said):
        pipe.to(OTHER)
    with pytest.raises(ValueError, match=said):
        pipe.unet.to(OTHER)
    with pytest.raises(ValueError, match=said):
        pipe.enable_model_cpu_offload()
    assert {tensor.device.type for network in pipe.networks.values() for tensor in network.parameters()} == {"cpu"}


@torch.no_grad()
def test_a_quantised_autoencoder_that_overflows_goes_on_in_float32():
    def made():
        pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
        pipe.set_progress_bar_config(disable=True)
        pipe.vae.decoder.conv_in.weight.mul_(3e4 / pipe.vae.decoder.conv_in.weight.abs().max())
        pipe.vae.half()
        return pipe

    pipe = made()
    pipe.quantize("int8", "vae")
    torch.testing.assert_close(pictures(pipe), pictures(made()), rtol=0, atol=0.02)
    assert pipe.quantized.keys() == {"vae"} and pipe.vae.dtype == torch.float16


def test_joined_projections_are_taken_apart():
    network = randomise(filmstrip.CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER))
    network.fuse_qkv_projections()
    whole = network.transformer_blocks[0].attn1.processor.weight
    report = network.quantize("int8")
    assert any("to_q" in name for name in report.layers)
    assert whole.data_ptr() not in {tensor.data_ptr() for tensor in network.parameters()}
    assert not hasattr(network.transformer_blocks[0].attn1.processor, "weight"), "nothing holds the joined weights"
    with pytest.raises(ValueError, match="quantised, so they can't be joined"):
        network.fuse_qkv_projections()


def test_kinds_are_explained():
    assert set(KINDS) == set(ERRORS) and all(KINDS.values())
    assert quantization.GROUP == 32
