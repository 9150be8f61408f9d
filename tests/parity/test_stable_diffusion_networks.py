"""The U-Net and ControlNet of Stable Diffusion give the reference's numbers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor as ReferenceProcessor
from diffusers.utils.torch_utils import fourier_filter

from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel
from filmstrip.nn.attention_layers import AttnProcessor
from filmstrip.nn.free_u import low_frequencies
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
SMALL: dict[str, Any] = {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "layers_per_block": 1,
}
XL: dict[str, Any] = {
    "use_linear_projection": True,
    "attention_head_dim": (2, 4, 1),
    "transformer_layers_per_block": (1, 2, 3),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 8 * 6 + 10,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "1.5": {},
    "pix2pix": {"in_channels": 8, "layers_per_block": 2},
    "2.1": {"use_linear_projection": True, "attention_head_dim": (2, 4, 8)},
    "xl": XL,
    "only cross-attention": {"only_cross_attention": True},
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "uneven": {"layers_per_block": (1, 2, 1), "only_cross_attention": (True, False, False)},
    "distilled": {"time_cond_proj_dim": 6},
    "rare options": {
        "center_input_sample": True,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "mid_block_scale_factor": 2.0,
        "norm_eps": 1e-3,
        "act_fn": "gelu",
        "downsample_padding": 1,
    },
}


def unets(**settings: Any) -> tuple[Any, Any]:
    """Ours and the reference's with the same weights."""
    reference = randomise(diffusers.UNet2DConditionModel(**{**SMALL, **settings}))
    return transplant(UNet2DConditionModel(**{**SMALL, **settings}), reference), reference


def inputs(settings: dict[str, Any], height: int = 10, width: int = 14, batch: int = 2) -> dict[str, Any]:
    torch.manual_seed(1)
    given: dict[str, Any] = {
        "sample": torch.randn(batch, settings.get("in_channels", 4), height, width),
        "timestep": torch.tensor([7, 600])[:batch],
        "encoder_hidden_states": torch.randn(batch, 5, 12),
    }
    if "addition_embed_type" in settings:
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(batch, 10), "time_ids": torch.randn(batch, 6)}
    if "time_cond_proj_dim" in settings:
        given["timestep_cond"] = torch.randn(batch, 6)
    return given


@torch.no_grad()
def both(networks: tuple[Any, Any], given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    ours, reference = (network(**given, return_dict=False)[0] for network in networks)
    return ours, reference


@pytest.mark.parametrize("size", [(16, 16), (10, 14), (9, 7)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_unet_agrees(variant, size):
    settings = VARIANTS[variant]
    assert relative_error(*both(unets(**settings), inputs(settings, *size))) < TOLERANCE


def test_the_unet_agrees_with_masks_residuals_and_one_timestep_for_all():
    networks = unets()
    given = inputs({})
    residuals = [
        torch.randn(2, channels, *size) for channels, size in zip((16, 16, 16, 32, 32, 32), SIZES, strict=True)
    ]
    masked = {"encoder_attention_mask": torch.tensor([[1, 1, 0, 0, 1], [1] * 5]), "timestep": 7}
    extra = {"down_block_additional_residuals": residuals, "mid_block_additional_residual": torch.randn(2, 32, 3, 4)}
    plain = both(networks, given)[0]
    for more in (masked, extra):
        changed, reference = both(networks, {**given, **more})
        assert relative_error(changed, reference) < TOLERANCE
        assert relative_error(changed, plain) > 1e-3


SIZES = ((10, 14), (10, 14), (5, 7), (5, 7), (3, 4), (3, 4))


def test_free_u_agrees_and_can_be_taken_back():
    networks = unets()
    given = inputs({})
    plain = both(networks, given)[0]
    for network in networks:
        network.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    changed, reference = both(networks, given)
    assert relative_error(changed, reference) < TOLERANCE
    assert relative_error(changed, plain) > 1e-3
    networks[0].disable_freeu()
    assert torch.equal(both(networks, given)[0], plain)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (2, 3), (1, 4), (3, 1), (1, 1)])
def test_low_frequencies_are_those_of_the_fourier_transform(size):
    picture = torch.randn(2, 3, *size)
    spectrum = torch.fft.fft2(picture)
    kept = torch.zeros_like(spectrum)
    for row in (0, -1):
        for column in (0, -1):
            kept[..., row, column] = spectrum[..., row, column]
    torch.testing.assert_close(low_frequencies(picture), torch.fft.ifft2(kept).real, rtol=1e-4, atol=1e-5)
    weaker = picture - 0.5 * low_frequencies(picture)
    assert relative_error(weaker, fourier_filter(picture, threshold=1, scale=0.5)) < TOLERANCE


def test_processors_written_for_diffusers_work():
    ours, reference = unets()
    given = inputs({})
    plain, _ = both((ours, reference), given)
    assert len(ours.attn_processors) == len(reference.attn_processors)
    ours.set_attn_processor(_Plain())
    assert all(isinstance(processor, _Plain) for processor in ours.attn_processors.values())
    assert relative_error(both((ours, reference), given)[0], plain) < TOLERANCE

    class Doubled(AttnProcessor):
        def __call__(self, *args, weight=1.0, **kwargs):
            return weight * super().__call__(*args, **kwargs)

    ours.set_attn_processor(Doubled())
    doubled = both((ours, reference), {**given})[0]
    assert torch.equal(doubled, plain)
    with torch.no_grad():
        weighted = ours(**given, cross_attention_kwargs={"weight": 2.0})[0]
    assert relative_error(weighted, plain) > 1e-3
    with pytest.raises(ValueError, match="a mapping of 1 processors was given for"):
        ours.set_attn_processor({"one": AttnProcessor()})
    ours.set_default_attn_processor()
    assert torch.equal(both((ours, reference), given)[0], plain)


class _Plain:
    """Written against the methods that attention layers of Diffusers have."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        given = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(layer(tokens))
            for layer, tokens in ((attn.to_q, hidden_states), (attn.to_k, given), (attn.to_v, given))
        )
        attention_mask = attn.prepare_attention_mask(attention_mask, given.shape[1], len(given))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        hidden_states = attn.batch_to_head_dim(probabilities @ value)
        return attn.to_out[1](attn.to_out[0](hidden_states))


def test_the_kind_of_processor_above_is_one_of_the_references():
    reference = unets()[1]
    given = inputs({})
    with torch.no_grad():
        plain = reference(**given)[0]
        reference.set_attn_processor(ReferenceProcessor())
        assert relative_error(reference(**given)[0], plain) < TOLERANCE


CONTROL: dict[str, Any] = {"conditioning_embedding_out_channels": (4, 8, 8, 16)}
CONTROLS: dict[str, dict[str, Any]] = {
    "1.5": {},
    "turned round": {"controlnet_conditioning_channel_order": "bgr"},
    "pooled": {"global_pool_conditions": True},
    "xl": XL,
    "two layers": {"layers_per_block": 2, "conditioning_channels": 1},
}


@pytest.mark.parametrize("guess_mode", [False, True])
@pytest.mark.parametrize("variant", CONTROLS)
def test_controlnet_agrees(variant, guess_mode):
    settings = {name: value for name, value in {**SMALL, **CONTROL, **CONTROLS[variant]}.items() if "up_" not in name}
    reference = randomise(diffusers.ControlNetModel(**settings))
    ours = transplant(ControlNetModel(**settings), reference)
    given = inputs(settings)
    given["controlnet_cond"] = torch.rand(2, settings.get("conditioning_channels", 3), 80, 112)
    with torch.no_grad():
        results = [
            network(**given, conditioning_scale=0.7, guess_mode=guess_mode, return_dict=False)
            for network in (ours, reference)
        ]
    (down, mid), (expected_down, expected_mid) = results
    assert len(down) == len(expected_down)
    for one, expected in zip((*down, mid), (*expected_down, expected_mid), strict=True):
        assert relative_error(one, expected) < TOLERANCE


def test_a_new_controlnet_changes_nothing_and_begins_as_the_unet():
    unet, _ = unets()
    control = ControlNetModel.from_unet(unet, **CONTROL)
    assert torch.equal(control.mid_block.resnets[0].conv1.weight, unet.mid_block.resnets[0].conv1.weight)
    with torch.no_grad():
        residuals = control(**inputs({}), controlnet_cond=torch.rand(2, 3, 80, 112))
    assert all(not residual.any() for residual in (*residuals.down_block_res_samples, residuals.mid_block_res_sample))


def test_gradients_are_the_same_when_blocks_are_computed_again():
    ours, _ = unets()
    gradients = []
    for switch in (ours.disable_gradient_checkpointing, ours.enable_gradient_checkpointing):
        switch()
        ours.zero_grad()
        ours(**inputs({}))[0].square().mean().backward()
        gradients.append(ours.conv_in.weight.grad.clone())
    torch.testing.assert_close(*gradients)
    assert ours.is_gradient_checkpointing


def test_bfloat16_is_as_near_to_float32_as_the_references():
    ours, reference = unets(attention_head_dim=2)
    given = inputs({})
    exact = both((ours, reference), given)[1]
    half = {name: value.bfloat16() if torch.is_floating_point(value) else value for name, value in given.items()}
    errors = [relative_error(result.float(), exact) for result in both((ours.bfloat16(), reference.bfloat16()), half)]
    assert errors[0] < 1.1 * errors[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"down_block_types": ("DownBlock2D",)}, "down_block_types must be"),
        ({"up_block_types": ("UpBlock2D", "UpBlock2D", "SkipUpBlock2D")}, "up_block_types must be"),
        ({"mid_block_type": "UNetMidBlock2D"}, "mid_block_type must be"),
        ({"addition_embed_type": "image"}, "addition_embed_type must be 'text_time' or None"),
        ({"attention_head_dim": (1, 2)}, "attention_head_dim has 2 values for 3"),
    ],
)
def test_networks_of_other_models_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UNet2DConditionModel(**{**SMALL, **settings})
