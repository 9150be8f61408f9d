"""The calls that offload: what they accept, what they refuse, and what becomes of a pipeline afterwards."""

import copy
import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import filmstrip
from filmstrip.checkpoints.mapping import map_to_disk
from filmstrip.checkpoints.tensors import is_mapped
from filmstrip.memory.offloading import tell_once
from filmstrip.memory.residency import Grain, place
from tests import tiny, tiny_stable_diffusion
from tests.cli.tiny_checkpoint import tiny_pipeline
from tests.memory.counting import counts, present  # noqa: F401
from tests.memory.other_device import OTHER, install

ROOT = Path(__file__).parents[2]
CALLS = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(device=OTHER),
    "sequential": lambda pipe: pipe.enable_sequential_cpu_offload(device="other"),
    "blocks": lambda pipe: pipe.enable_group_offload(OTHER, num_blocks_per_group=2),
    "leaves": lambda pipe: pipe.enable_group_offload("other:0", "cpu", "leaf_level"),
}


def pipeline():
    pipe = filmstrip.StableDiffusionPipeline(**tiny_stable_diffusion.parts())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pictures(pipe, **arguments):
    generator = torch.Generator().manual_seed(0)
    made = pipe("a cat", num_inference_steps=2, output_type="pt", generator=generator, **arguments)
    return made.images.cpu()


@pytest.fixture
def other(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def expected(other):
    return pictures(pipeline().to(OTHER))


@pytest.mark.parametrize("name", CALLS)
def test_every_call_offloads_and_can_be_taken_back(name, expected, counts):  # noqa: F811
    pipe = pipeline()
    CALLS[name](pipe)
    assert pipe._execution_device.type == OTHER.type and pipe.device.type == "cpu"
    assert torch.equal(pictures(pipe), expected)
    assert counts.copied > 0 and counts.now == 0
    pipe.remove_all_hooks()
    assert pipe._execution_device.type == "cpu"
    pipe.to(OTHER)
    copied = counts.copied
    assert torch.equal(pictures(pipe), expected)
    assert counts.copied == copied


def test_one_call_replaces_the_former(expected, counts):  # noqa: F811
    pipe, most = pipeline(), {}
    for name in ("model", "sequential", "blocks", "model"):
        counts.most = 0
        CALLS[name](pipe)
        assert torch.equal(pictures(pipe), expected)
        most.setdefault(name, counts.most)
        assert counts.most == most[name]
    assert most["sequential"] < most["blocks"] < most["model"]


def test_networks_that_were_on_the_device_go_home_first(expected, counts):  # noqa: F811
    pipe = pipeline().to(OTHER)
    pipe.enable_model_cpu_offload()
    assert pipe.device.type == "cpu"
    assert torch.equal(pictures(pipe), expected)


def test_offloaded_networks_are_not_moved(other):
    pipe = pipeline()
    pipe.enable_model_cpu_offload(gpu_id=0)
    for device in ("other", "cpu"):
        with pytest.raises(ValueError, match=r"remove_all_hooks\(\) before moving them"):
            pipe.to(device)
    assert pipe.to(torch.bfloat16).unet.dtype == torch.bfloat16
    assert pictures(pipe).isfinite().all()


def test_a_network_that_is_put_in_is_offloaded_too(expected):
    pipe = pipeline()
    pipe.enable_model_cpu_offload()
    pipe.unet = pipeline().unet
    assert pipe.unet.conv_in.weight.device == OTHER
    assert torch.equal(pictures(pipe), expected)


def test_pipelines_that_share_networks_share_their_offloading(expected):
    pipe = pipeline()
    pipe.enable_sequential_cpu_offload()
    other_pipe = type(pipe).from_pipe(pipe)
    assert other_pipe._execution_device.type == OTHER.type
    streams = [
        one.stream(prompt="a cat", num_inference_steps=2, output_type="pt", generator=torch.Generator().manual_seed(0))
        for one in (pipe, other_pipe)
    ]
    ends = [None, None]
    while None in ends:
        for index, stream in enumerate(streams):
            event = next(stream, None)
            if event is not None and event.stage == "done":
                ends[index] = event.output.images.cpu()
    assert torch.equal(ends[0], expected) and torch.equal(ends[1], expected)
    other_pipe.enable_model_cpu_offload()
    assert torch.equal(pictures(pipe), expected) and torch.equal(pictures(other_pipe), expected)
    assert present({**pipe.networks, **other_pipe.networks}) == []


def test_tiling_slicing_chunking_and_halves_in_turn_work_offloaded(other):
    def switched(pipe):
        pipe.enable_vae_tiling()
        pipe.enable_vae_slicing()
        pipe.unet.enable_forward_chunking()
        return pipe

    whole, pipe = switched(pipeline().to(OTHER)), switched(pipeline())
    pipe.enable_group_offload(OTHER)
    assert torch.equal(pictures(pipe, sequential_guidance=True), pictures(whole, sequential_guidance=True))


def test_a_compiled_u_net_comes_as_a_whole():
    pipe = pipeline()
    expected = pictures(pipe)
    pipe.unet = torch.compile(pipe.unet, fullgraph=True, backend="eager")
    place(pipe.networks, torch.device("cpu"), Grain())  # graphs are made of what the CPU computes
    for _ in range(2):
        torch.testing.assert_close(pictures(pipe), expected, rtol=1e-4, atol=1e-4)
        assert present(pipe.networks) == []


def test_an_autoencoder_that_is_widened_for_decoding_is_offloaded_widened(other, counts):  # noqa: F811
    def made():
        parts = tiny_stable_diffusion.xl_parts()
        parts["vae"] = parts["vae"].half()
        parts["vae"].register_to_config(force_upcast=True)
        pipe = filmstrip.TextToVideoZeroSDXLPipeline(**parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def videos(pipe):
        size = {"height": 64, "width": 64, "video_length": 2, "num_inference_steps": 3, "t0": 1, "t1": 2}
        return pipe("a cat", **size, output_type="pt", generator=torch.Generator().manual_seed(0)).frames

    expected, pipe = videos(made().to(OTHER)).cpu(), made()
    pipe.enable_model_cpu_offload()
    for _ in range(2):
        assert torch.equal(videos(pipe).cpu(), expected)
        assert (present(pipe.networks), counts.now) == ([], 0)
    assert counts.units == ["text_encoder", "text_encoder_2", "unet", "copy of AutoencoderKL"] * 2


def test_an_autoencoder_that_overflows_is_offloaded_widened(other, counts, caplog):  # noqa: F811
    def made():
        pipe = pipeline()
        with torch.no_grad():
            pipe.vae.decoder.conv_in.weight.mul_(3e4 / pipe.vae.decoder.conv_in.weight.abs().max())
        pipe.vae.half()
        return pipe

    expected, pipe = pictures(made().to(OTHER)), made()
    assert bool(expected.isfinite().all())
    pipe.enable_model_cpu_offload()
    for _ in range(2):
        assert torch.equal(pictures(pipe), expected)
        assert (present(pipe.networks), counts.now) == ([], 0)
    assert caplog.text.count("Decoding overflowed in float16 and continues in float32.") == 3
    assert counts.units[-2:] == ["vae", "copy of AutoencoderKL"]


@torch.no_grad()
def test_fused_projections_are_joined_where_they_wait(other, counts):  # noqa: F811
    torch.manual_seed(0)
    network = filmstrip.CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER).eval()
    whole = copy.deepcopy(network).to(OTHER)
    network.enable_group_offload(OTHER)
    assert network.transformer_blocks[0].attn1.to_q.weight.device == OTHER
    network.fuse_qkv_projections()
    assert counts.now == 0
    fused = network.transformer_blocks[0].attn1
    assert fused.processor.weight.device.type == "cpu"
    given = torch.randn(1, 5, fused.to_q.in_features).to(OTHER)
    torch.testing.assert_close(fused(given, None).cpu(), whole.transformer_blocks[0].attn1(given, None).cpu())


def test_excluded_networks_are_on_the_device_all_the_time(expected, counts):  # noqa: F811
    pipe = pipeline()
    pipe.enable_group_offload(OTHER, exclude_modules="vae")
    assert (pipe.vae.device, pipe.unet.device.type) == (OTHER, "cpu")
    assert torch.equal(pictures(pipe), expected)
    assert "vae" not in counts.units


def test_weights_that_lie_in_no_file_are_mapped_from_one(expected, tmp_path):
    pipe = pipeline()
    strides = [tensor.stride() for tensor in pipe.unet.parameters()]
    pipe.enable_group_offload(OTHER, offload_to_disk_path=tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["text_encoder.safetensors", "unet.safetensors", "vae.safetensors"]
    assert all(is_mapped(tensor) for network in pipe.networks.values() for tensor in network.parameters())
    assert [tensor.stride() for tensor in pipe.unet.parameters()] == strides
    assert torch.equal(pictures(pipe), expected)
    pipe.remove_all_hooks()
    assert map_to_disk(pipe.unet, tmp_path / "again.safetensors") == 0


def test_a_loaded_network_needs_no_other_file(tmp_path):
    filmstrip.AutoencoderKL(block_out_channels=(32,), latent_channels=4).save_pretrained(tmp_path / "vae")
    network = filmstrip.AutoencoderKL.from_pretrained(tmp_path / "vae")
    mapped = [is_mapped(tensor) for tensor in network.parameters() if tensor.dim() < 4]
    assert mapped and all(mapped)
    assert not is_mapped(torch.ones(3))


def test_tied_weights_are_mapped_as_one(tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    expected = network(torch.ones(1, 4))
    assert map_to_disk(network, tmp_path / "deep" / "weights.safetensors") == 16 * 4 + 2 * 4 * 4
    assert network[0].weight is network[1].weight
    assert torch.equal(network(torch.ones(1, 4)), expected)


def test_a_network_alone_is_offloaded(other):
    network = pipeline().vae
    pixels = torch.rand(1, 3, 32, 32)
    expected = pipeline().vae.to(OTHER).encode(pixels.to(OTHER)).latent_dist.mode().cpu()
    network.enable_group_offload(OTHER, offload_type="leaf_level")
    assert torch.equal(network.encode(pixels.to(OTHER)).latent_dist.mode().cpu(), expected)


def test_without_an_accelerator_nothing_changes_and_that_is_said_once(caplog):
    tell_once.cache_clear()
    pipe = pipeline()
    expected = pictures(pipe)
    with caplog.at_level(logging.WARNING):
        pipe.enable_model_cpu_offload()
        pipe.enable_sequential_cpu_offload()
        pipe.enable_group_offload("cpu", use_stream=True)
        pipe.enable_group_offload(torch.device("cuda", 0))
        pipe.unet.enable_group_offload("cpu")
    assert caplog.text.count("offloading changes nothing on a CPU") == 1
    assert pipe.device.type == "cpu" and type(pipe.unet.conv_in._parameters) is dict
    assert torch.equal(pictures(pipe.to("cpu")), expected)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"onload_device": "nowhere"}, "unknown device 'nowhere'"),
        ({"onload_device": OTHER, "offload_device": OTHER}, "offload_device must be 'cpu', got 'other:0'"),
        ({"onload_device": OTHER, "offload_type": "blocks"}, "must be 'block_level' or 'leaf_level', got 'blocks'"),
        ({"onload_device": OTHER, "num_blocks_per_group": 0}, "must be at least 1, got 0"),
        (
            {"onload_device": OTHER, "offload_type": "leaf_level", "num_blocks_per_group": 2},
            "num_blocks_per_group has no effect",
        ),
        ({"onload_device": OTHER, "exclude_modules": ["vea"]}, "names vea; the networks here are vae, text_encoder"),
        ({"onload_device": OTHER, "use_stream": True}, "use_stream has no effect on other:0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, other):
    with pytest.raises(ValueError, match=error):
        pipeline().enable_group_offload(**arguments)


def test_a_number_of_a_device_is_given_once(other):
    with pytest.raises(ValueError, match="gpu_id=1 was given beside device='other:0'"):
        pipeline().enable_model_cpu_offload(gpu_id=1, device="other:0")


def test_arguments_that_change_nothing_are_said_once(other, caplog):
    tell_once.cache_clear()
    for _ in range(2):
        pipeline().enable_group_offload(OTHER, low_cpu_mem_usage=True, non_blocking=True)
    assert caplog.text.count("non_blocking and low_cpu_mem_usage of enable_group_offload changes nothing") == 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    made = tiny_pipeline()
    made.defaults |= {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8, "num_inference_steps": 2}
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("page", ["guide.md", "guide.zh.md"])
def test_the_guide_is_true(page, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("filmstrip.checkpoints.locate.builtin_folder", lambda name: checkpoint)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [section] = [part for part in re.split(r"\n##+ ", text) if "enable_group_offload" in part]
    offloading, casting, quantizing = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    exec(offloading, {})  # here without an accelerator: nothing changes
    exec(casting, {})
    assert int(capsys.readouterr().out.split()[-3]) > 0
    exec(quantizing, {})
    assert "int8: 20 of 27 linear layers" in capsys.readouterr().out
    install(monkeypatch)  # and with one, which has another name and no streams
    found = {}
    exec(offloading.replace('"cuda"', '"other"').replace(", use_stream=True", ""), found)
    assert found["pipe"]._execution_device.type == OTHER.type and len(found["video"]) == 9
