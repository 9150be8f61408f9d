"""The networks of LTX-Video give the reference's numbers."""

from __future__ import annotations

import diffusers
import pytest
import torch

from filmstrip.models.ltx import AutoencoderKLLTXVideo, LTXLatentUpsamplerModel, LTXVideoTransformer3DModel
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5

TRANSFORMERS = {
    "one head": {"num_attention_heads": 1, "attention_head_dim": 16, "cross_attention_dim": 16},
    "odd heads": {"num_attention_heads": 3, "attention_head_dim": 20, "cross_attention_dim": 60},
    "affine norms, no biases": {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "norm_elementwise_affine": True,
        "attention_bias": False,
        "attention_out_bias": False,
        "norm_eps": 1e-5,
    },
    "other channels": {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "cross_attention_dim": 32,
        "in_channels": 6,
        "out_channels": 10,
        "activation_fn": "gelu",
    },
}


def transformer_pair(options):
    config = {"in_channels": 8, "out_channels": 8, "num_layers": 2, "caption_channels": 24, **options}
    reference = randomise(diffusers.LTXVideoTransformer3DModel(**config))
    return transplant(LTXVideoTransformer3DModel(**config), reference), reference, config["in_channels"]


def transformer_inputs(channels, timestep_shape, batch=2):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(batch, 7, dtype=torch.bool)
    mask[0, 4:] = False
    return {
        "hidden_states": torch.randn(batch, 3 * 2 * 5, channels, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 7, 24, generator=generator),
        "timestep": torch.rand(timestep_shape, generator=generator) * 1000,
        "encoder_attention_mask": mask,
    }


@pytest.mark.parametrize("options", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
@pytest.mark.parametrize("timestep_shape", [(2,), (2, 1), (2, 30)])
@torch.no_grad()
def test_the_transformer_agrees(options, timestep_shape):
    ours, reference, channels = transformer_pair(options)
    inputs = transformer_inputs(channels, timestep_shape)
    grid = {"num_frames": 3, "height": 2, "width": 5, "rope_interpolation_scale": (8 / 25, 32, 32)}
    assert relative_error(ours(**inputs, **grid).sample, reference(**inputs, **grid).sample) < TOLERANCE


@torch.no_grad()
def test_the_transformer_agrees_at_given_coordinates_and_on_plain_indices():
    ours, reference, channels = transformer_pair(TRANSFORMERS["odd heads"])
    inputs = transformer_inputs(channels, (2, 30))
    coordinates = torch.rand(2, 3, 30, generator=torch.Generator().manual_seed(2)) * 100
    for places in ({"video_coords": coordinates}, {"num_frames": 3, "height": 2, "width": 5}):
        assert relative_error(ours(**inputs, **places)[0], reference(**inputs, **places)[0]) < TOLERANCE


@torch.no_grad()
def test_a_prepared_prompt_and_rotary_table_change_nothing():
    ours, _, channels = transformer_pair(TRANSFORMERS["odd heads"])
    inputs = transformer_inputs(channels, (2,))
    grid = {"num_frames": 3, "height": 2, "width": 5, "rope_interpolation_scale": (8 / 25, 32, 32)}
    plain = ours(**inputs, **grid).sample
    prompt = ours.prepare_prompt(inputs.pop("encoder_hidden_states"), inputs.pop("encoder_attention_mask"))
    rotary = ours.rotary(ours.grid_coordinates((3, 2, 5), (8 / 25, 32, 32), torch.device("cpu")))
    assert torch.equal(plain, ours(encoder_hidden_states=prompt, rotary=rotary, **inputs).sample)


OLD = {
    "block_out_channels": (6, 10, 12, 12),
    "decoder_block_out_channels": (6, 10, 12, 12),
    "layers_per_block": (1, 2, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 2, 1, 1),
}
NEW = {
    "block_out_channels": (8, 16, 16, 32, 32),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 2, 1, 1),
    "decoder_layers_per_block": (1, 2, 1, 1),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
    "timestep_conditioning": True,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
AUTOENCODERS = {
    "0.9.0": OLD,
    "0.9.0, causal decoder, plain encoder": {**OLD, "decoder_causal": True, "encoder_causal": False},
    "0.9.1": {
        **OLD,
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_inject_noise": (True, True, True, False),
        "decoder_layers_per_block": (1, 2, 1, 2),
        "decoder_spatio_temporal_scaling": (True,) * 3,
        "timestep_conditioning": True,
        "upsample_residual": (True,) * 3,
        "upsample_factor": (2,) * 3,
    },
    "0.9.5": NEW,
    "0.9.5, causal decoder": {**NEW, "decoder_causal": True},
    "0.9.5, other residuals": {**NEW, "upsample_residual": (True, False, True)},
}


def autoencoder_pair(options):
    config = {"latent_channels": 8, **options}
    reference = randomise(diffusers.AutoencoderKLLTXVideo(**config))
    ours = transplant(AutoencoderKLLTXVideo(**config), reference)
    return ours, reference, torch.tensor([0.05, 0.3]) if config.get("timestep_conditioning") else None


def decode_both(ours, reference, latents, temb):
    torch.manual_seed(5)  # the reference injects noise from the global stream
    theirs = reference.decode(latents, temb).sample
    return ours.decode(latents, temb, generator=torch.Generator().manual_seed(5)).sample, theirs


@pytest.mark.parametrize("options", AUTOENCODERS.values(), ids=AUTOENCODERS.keys())
@torch.no_grad()
def test_the_autoencoder_agrees(options):
    ours, reference, temb = autoencoder_pair(options)
    generator = torch.Generator().manual_seed(3)
    video = torch.rand(2, 3, 9, 64, 96, generator=generator) * 2 - 1
    moments = reference.encode(video).latent_dist
    assert relative_error(ours.encode(video).latent_dist.mean, moments.mean) < TOLERANCE
    assert relative_error(ours.encode(video).latent_dist.logvar, moments.logvar) < TOLERANCE
    latents = torch.randn(2, 8, 2, 2, 3, generator=generator)
    assert relative_error(*decode_both(ours, reference, latents, temb)) < TOLERANCE


@pytest.mark.parametrize("name", ["0.9.0", "0.9.5"])
@torch.no_grad()
def test_tiles_and_runs_of_frames_agree(name):
    ours, reference, temb = autoencoder_pair(AUTOENCODERS[name])
    generator = torch.Generator().manual_seed(4)
    video = torch.rand(2, 3, 33, 96, 160, generator=generator) * 2 - 1
    latents = torch.randn(2, 8, 5, 3, 5, generator=generator)
    for framewise in (False, True):
        for vae in (ours, reference):
            vae.enable_tiling(64, 96, 16, 32, 64, 8)
            vae.use_framewise_encoding = vae.use_framewise_decoding = framewise
        theirs = reference.encode(video).latent_dist.mean
        assert relative_error(ours.encode(video).latent_dist.mean, theirs) < TOLERANCE
        assert relative_error(*decode_both(ours, reference, latents, temb)) < TOLERANCE


@torch.no_grad()
def test_runs_of_frames_are_switched_for_encoding_and_decoding_apart():
    ours, _, _ = autoencoder_pair(AUTOENCODERS["0.9.0"])
    video = torch.rand(1, 3, 33, 64, 64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    whole = ours.encode(video).latent_dist.mean
    ours.use_framewise_decoding = True
    assert torch.equal(ours.encode(video).latent_dist.mean, whole)
    ours.use_framewise_encoding = True
    assert not torch.equal(ours.encode(video).latent_dist.mean, whole)


@pytest.mark.parametrize("options", AUTOENCODERS.values(), ids=AUTOENCODERS.keys())
@pytest.mark.parametrize("frames_at_once", [1, 3])
@torch.no_grad()
def test_a_streamed_video_equals_the_whole(options, frames_at_once):
    ours, _, temb = autoencoder_pair(options)
    ours.double()
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 8, 4, 2, 3, generator=generator, dtype=torch.double)
    temb = None if temb is None else temb.double()
    whole = ours.decode(latents, temb, generator=torch.Generator().manual_seed(5)).sample
    ours.frames_at_once = frames_at_once
    stream = list(ours.decode_stream(latents, temb, torch.Generator().manual_seed(5)))
    assert len(stream) > 1
    torch.testing.assert_close(torch.cat(stream, dim=2), whole)
    video = torch.rand(1, 3, 25, 64, 64, generator=generator, dtype=torch.double)
    moments = torch.cat(list(ours.encode_stream(video)), dim=2)
    torch.testing.assert_close(moments[:, :8], ours.encode(video).latent_dist.mean)


# Two dimensions mean that frames are pictures of their own, so their number can't change.
@pytest.mark.parametrize(
    ("dims", "spatial", "temporal"), [(2, True, False), (3, True, False), (3, False, True), (3, True, True)]
)
@torch.no_grad()
def test_the_upsampler_agrees(dims, spatial, temporal):
    config = {"in_channels": 4, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": dims}
    config |= {"spatial_upsample": spatial, "temporal_upsample": temporal}
    reference = randomise(diffusers.pipelines.ltx.modeling_latent_upsampler.LTXLatentUpsamplerModel(**config))
    ours = transplant(LTXLatentUpsamplerModel(**config), reference)
    latents = torch.randn(2, 4, 3, 5, 4, generator=torch.Generator().manual_seed(6))
    assert relative_error(ours(latents), reference(latents)) < TOLERANCE
