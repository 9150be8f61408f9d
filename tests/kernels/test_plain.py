"""Every network computes the same by torch's own operators alone."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

import filmstrip
from filmstrip.kernels import convolution, group_norm, linear, onednn, video_convolution, winograd
from filmstrip.kernels.plain import is_free, plain_kernels
from filmstrip.nn import heads, resnet
from tests import tiny


def text(width, tokens=6):
    return torch.randn(2, tokens, width)


def unet():
    network = filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET)
    return lambda: network(torch.randn(2, 4, 34, 36), 7, text(16)).sample, network


def xl_unet():
    network = filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_XL_UNET)
    added = {"text_embeds": torch.randn(2, 8), "time_ids": torch.rand(2, 6)}
    return lambda: network(torch.randn(2, 4, 34, 36), 7, text(40), added_cond_kwargs=added).sample, network


def controlnet():
    config = {name: value for name, value in tiny.STABLE_DIFFUSION_UNET.items() if name in CONTROLNET}
    network = filmstrip.ControlNetModel(**config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return (
        lambda: network(torch.randn(2, 4, 32, 36), 7, text(16), torch.rand(2, 3, 256, 288)).mid_block_res_sample,
        network,
    )


CONTROLNET = {"block_out_channels", "down_block_types", "norm_num_groups", "cross_attention_dim", "attention_head_dim"}
CONTROLNET |= {"layers_per_block"}


def ltx_transformer():
    network = filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER)
    grid = {"num_frames": 4, "height": 9, "width": 10}
    return lambda: network(torch.randn(2, 360, 8), text(16), torch.tensor([500.0, 20.0]), **grid).sample, network


def cogvideox_transformer(config):
    def make():
        network = filmstrip.CogVideoXTransformer3DModel(**config)
        rotary = network.rotary_table((4, 20, 24))
        ofs = torch.tensor([2.0]) if config.get("ofs_embed_dim") else None
        given = torch.randn(2, 4, 4, 20, 24), text(16), torch.tensor([500, 20])
        return lambda: network(*given, ofs=ofs, image_rotary_emb=rotary).sample, network

    return make


def autoencoder(name, config, channels, *, timed=False):
    def make():
        network = getattr(filmstrip, name)(**config)
        is_video = hasattr(network, "temporal_compression_ratio")
        size = (3, 12, 10) if is_video else (48, 44)
        given = {"temb": torch.tensor([0.05, 0.1])} if timed else {}

        def run():
            generator = {"generator": torch.Generator().manual_seed(1)} if timed else {}
            video = network.decode(torch.randn(2, channels, *size), **given, **generator).sample
            pixels = video.clamp(-1, 1)
            return torch.cat([video.flatten(), network.encode(pixels).latent_dist.mean.flatten()])

        return run, network

    return make


def upsampler(dims, *, in_time):
    def make():
        settings = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": dims}
        network = filmstrip.LTXLatentUpsamplerModel(**settings, temporal_upsample=in_time)
        return lambda: network(torch.randn(2, 8, 3, 12, 10)), network

    return make


NETWORKS = {
    "U-Net": unet,
    "U-Net of XL": xl_unet,
    "ControlNet": controlnet,
    "LTX": ltx_transformer,
    "LTX upsampler": upsampler(3, in_time=False),
    "LTX upsampler of frames": upsampler(2, in_time=False),
    "LTX upsampler in time": upsampler(3, in_time=True),
    "LTX autoencoder": autoencoder("AutoencoderKLLTXVideo", tiny.LTX_AUTOENCODER, 8),
    "LTX timed autoencoder": autoencoder("AutoencoderKLLTXVideo", tiny.LTX_TIMED_AUTOENCODER, 8, timed=True),
    "CogVideoX": cogvideox_transformer(tiny.COGVIDEOX_TRANSFORMER),
    "CogVideoX 1.5": cogvideox_transformer(tiny.COGVIDEOX_1_5_TRANSFORMER),
    "CogVideoX autoencoder": autoencoder("AutoencoderKLCogVideoX", tiny.COGVIDEOX_AUTOENCODER, 4),
    "autoencoder": autoencoder("AutoencoderKL", tiny.STABLE_DIFFUSION_AUTOENCODER, 4),
}
# What is only called by a kernel that was chosen: it fails where all is plain.
CHOSEN = [(onednn, "linear"), (onednn, "convolution"), (winograd.TimeConvolution, "__call__")]
CHOSEN += [(convolution, "_convolve_few_pixels"), (group_norm, "_moments_in_portions"), (heads, "_normed_in_blocks")]
CHOSEN += [(resnet, "convolve_doubled"), (resnet, "activated_strips"), (linear.onednn, "linear")]


@contextmanager
def refusing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a kernel was chosen")

    with monkeypatch.context() as patched:
        for owner, name in CHOSEN:
            patched.setattr(owner, name, refuse)
        yield


@pytest.fixture
def small_portions(monkeypatch):
    """Tiny networks, too, are divided."""
    for owner, name, value in (
        (resnet, "STRIPE_CPU", 2**10),
        (resnet, "STRIPE_PIXELS", 2**7),
        (resnet, "PIXELS_WORTH_ADDING", 2**5),
        (video_convolution, "STRIP_CPU", 2**12),
        (winograd, "MIN_CHANNELS", 2),
        (winograd, "MIN_POSITIONS", 16),
        (linear, "SMALL_PRODUCT", 2**8),
        (group_norm, "PORTION_CPU", 2**10),
    ):
        monkeypatch.setattr(owner, name, value)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_gives_the_same_by_plain_operators(name, small_portions, monkeypatch):
    torch.manual_seed(0)
    run, network = NETWORKS[name]()
    network.eval()
    torch.manual_seed(1)
    chosen = run()
    torch.manual_seed(1)
    with plain_kernels(), refusing(monkeypatch):
        plain = run()
    assert float((chosen - plain).norm() / plain.norm()) < 2e-5
    with pytest.raises(AssertionError, match="a kernel was chosen"), refusing(monkeypatch):
        run()


@torch.no_grad()
def test_plain_is_what_torch_computes_and_ends_with_the_block():
    rows, weight = torch.randn(700, 64), torch.randn(64, 64)
    assert is_free()
    with plain_kernels():
        assert not is_free()
        assert torch.equal(linear.product(rows, weight), F.linear(rows, weight))
    assert is_free()
