"""Weights stored in a narrow type, and widened layer by layer."""

import copy

import pytest
import torch
from torch import nn

import filmstrip
from filmstrip.memory.casting import cast_layers
from filmstrip.memory.residency import compute_dtype_of
from tests import tiny, tiny_stable_diffusion
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over, relative_error, video
from tests.memory.counting import counts  # noqa: F401
from tests.memory.other_device import OTHER, install
from tests.parity.references import randomise

FP8 = torch.float8_e4m3fn
DENOISERS = ("transformer", "unet")
WITH_DENOISER = [case for case in CASES if any(name in case.pipeline_class.component_names() for name in DENOISERS)]


def denoiser(pipeline):
    return next(pipeline.networks[name] for name in DENOISERS if name in pipeline.networks)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.body = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        self.proj_out = nn.Linear(8, 8)

    def forward(self, hidden_states):
        return self.proj_out(self.body(self.norm(hidden_states)))


@torch.no_grad()
def test_layers_are_stored_narrow_and_compute_wide(counts):  # noqa: F811
    network, given = Network(), torch.randn(2, 8)
    expected = copy.deepcopy(network)
    for layer in (expected.body[0], expected.body[2]):
        for parameter in layer.parameters():
            parameter.copy_(parameter.to(FP8).float())
    casting = cast_layers(network, FP8, torch.float32, kept=("norm", "^proj_out$"))
    assert casting.layers == ("body.0", "body.2") and casting.kept == ("proj_out",)
    assert casting.bytes_saved == 3 * sum(p.numel() for p in network.body.parameters())
    for _ in range(2):
        assert torch.equal(network(given), expected(given))
    assert {p.dtype for p in network.body[0].parameters()} == {FP8}
    assert counts.most <= 4 * (8 * 32 + 32), "one layer at a time is wide"
    assert compute_dtype_of(network) == torch.float32


@torch.no_grad()
def test_tied_weights_stay_tied():
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[1].weight = network[0].weight
    cast_layers(network, FP8, torch.float32)
    assert len({id(p) for p in network.parameters()}) == 3
    network(torch.ones(1, 8))


def test_when_nothing_would_change_it_is_said():
    with pytest.raises(ValueError, match=r"no layer of Network would become smaller .* of 3 layers 3 are kept"):
        cast_layers(Network(), FP8, torch.float32, kept=(".",))
    with pytest.raises(ValueError, match="of 3 layers 3 are kept by class or name"):
        cast_layers(Network(), FP8, torch.float32, kept_classes=[nn.Linear])
    with pytest.raises(ValueError, match=r"would become smaller as torch\.float32"):
        cast_layers(Network(), torch.float32, torch.float32)
    network = Network()
    cast_layers(network, FP8, torch.float32)
    with pytest.raises(ValueError, match="stored in a narrow type already"):
        cast_layers(network, torch.float8_e5m2, torch.float32)


def unet():
    return randomise(filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET), spread=0.05)


def test_a_network_goes_on_saying_what_it_computes_in():
    network = unet().to(torch.bfloat16)
    casting = network.enable_layerwise_casting(FP8, compute_dtype=torch.bfloat16)
    assert network.dtype == torch.bfloat16
    assert casting.bytes_saved > 0
    assert all(torch.get_default_dtype() != FP8 for _ in casting.kept)
    assert network.conv_in.weight.dtype == network.time_embedding.linear_1.weight.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"compute_dtype is torch.float32, but .* was loaded as torch.bfloat16"):
        unet().to(torch.bfloat16).enable_layerwise_casting(compute_dtype=torch.float32)


def test_names_and_classes_of_the_call_are_kept_besides_the_family_s():
    few = unet().enable_layerwise_casting(skip_modules_pattern=("down_blocks",), skip_modules_classes=(nn.Conv2d,))
    all_of_them = unet().enable_layerwise_casting(skip_modules_pattern="auto")
    assert not any("down_blocks" in name for name in few.layers)
    assert {"conv_in", "conv_out", "time_embedding.linear_1"} <= set(few.kept) & set(all_of_them.kept)
    assert set(few.layers) < set(all_of_them.layers)


@torch.no_grad()
def test_a_network_that_is_moved_takes_its_narrow_weights_along(monkeypatch):
    install(monkeypatch)
    network, given = (
        unet(),
        (torch.randn(1, 4, 8, 8), 3, torch.randn(1, 6, tiny.STABLE_DIFFUSION_UNET["cross_attention_dim"])),
    )
    network.enable_layerwise_casting()
    expected = network(*given).sample
    network.to(OTHER)
    assert {p.device for p in network.parameters()} == {OTHER}
    moved = network(given[0].to(OTHER), 3, given[2].to(OTHER)).sample
    assert moved.device == OTHER
    torch.testing.assert_close(moved.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("call", ["model", "sequential", "blocks"])
@torch.no_grad()
def test_narrow_weights_are_offloaded_narrow(call, monkeypatch, counts):  # noqa: F811
    install(monkeypatch)

    def made(device):
        pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
        pipe.set_progress_bar_config(disable=True)
        pipe.unet.enable_layerwise_casting()
        if device is None:
            {
                "model": pipe.enable_model_cpu_offload,
                "sequential": pipe.enable_sequential_cpu_offload,
                "blocks": lambda: pipe.enable_group_offload(OTHER),
            }[call]()
            return pipe
        return pipe.to(device)

    def pictures(pipe):
        generator = torch.Generator().manual_seed(0)
        return pipe("a cat", num_inference_steps=2, output_type="pt", generator=generator).images.cpu()

    expected = pictures(made(OTHER))
    pipe = made(None)
    for _ in range(2):
        assert torch.equal(pictures(pipe), expected)
    stored = [p for p in pipe.unet.parameters() if p.dtype == FP8]
    assert stored and {p.device.type for p in stored} == {"cpu"}
    with pytest.raises(ValueError, match=r"unet is stored in a narrow type; choose torch\.bfloat16 when loading"):
        pipe.to(torch.bfloat16)
    pipe.remove_all_hooks()
    assert compute_dtype_of(pipe.unet) == torch.float32
    assert torch.equal(pictures(pipe.to(OTHER)), expected)


def test_an_offloaded_network_is_cast_before(monkeypatch):
    install(monkeypatch)
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    pipe.enable_model_cpu_offload()
    with pytest.raises(ValueError, match="call enable_layerwise_casting first"):
        pipe.unet.enable_layerwise_casting()


@over(WITH_DENOISER)
def test_narrow_weights_compute_what_their_rounded_values_would(case):
    pipeline, rounded = fresh(case), fresh(case)
    cast, plain = (
        next(one.networks[name] for name in DENOISERS if name in one.networks) for one in (pipeline, rounded)
    )
    casting = cast.enable_layerwise_casting()
    for name in casting.layers:
        for parameter in plain.get_submodule(name).parameters():
            parameter.data = parameter.data.to(FP8).float()
    expected = video(case, rounded)
    # Weights that lie elsewhere can take another kernel, which sums in another order.
    assert relative_error(video(case, pipeline), expected) < 1e-5
    assert 1e-4 < relative_error(expected, video(case)) < 0.3  # 0.22 at most; the weights of the tiny models are wide


@over(case for case in WITH_DENOISER if case.pipeline == "LTXPipeline" or case.pipeline == "CogVideoXPipeline")
def test_the_error_against_float32_is_bounded(case):
    pipeline = fresh(case).to(torch.bfloat16)
    denoiser(pipeline).enable_layerwise_casting(FP8, torch.bfloat16)
    assert relative_error(video(case, pipeline), video(case)) < 0.15
