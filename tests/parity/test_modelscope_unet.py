"""The U-Net of ModelScope gives the reference's numbers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from filmstrip.models.modelscope.unet import UNet3DConditionModel
from filmstrip.nn.attention_layers import AttnProcessor, remembering_prompts
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
SMALL: dict[str, Any] = {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
    "attention_head_dim": 8,
    "layers_per_block": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one head": {"attention_head_dim": 16},
    "many heads": {"attention_head_dim": 4, "layers_per_block": 2},
    "two levels": {
        "block_out_channels": (24, 48),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    },
    "attention at other levels": {
        "down_block_types": ("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        "up_block_types": ("CrossAttnUpBlock3D", "UpBlock3D", "CrossAttnUpBlock3D"),
    },
    "distilled": {"time_cond_proj_dim": 6},
    "rare options": {
        "in_channels": 5,
        "out_channels": 3,
        "mid_block_scale_factor": 2.0,
        "norm_eps": 1e-3,
        "act_fn": "gelu",
    },
}
SIZES = [(2, 3, 8, 8), (1, 6, 10, 14), (2, 1, 9, 7), (1, 4, 1, 3)]  # videos, frames, height, width


def unets(**settings: Any) -> tuple[Any, Any]:
    """Ours and the reference's with the same weights."""
    reference = randomise(diffusers.UNet3DConditionModel(**{**SMALL, **settings}))
    return transplant(UNet3DConditionModel(**{**SMALL, **settings}), reference), reference


def inputs(settings: dict[str, Any], batch: int = 2, frames: int = 3, height: int = 8, width: int = 6) -> Any:
    torch.manual_seed(1)
    given: dict[str, Any] = {
        "sample": torch.randn(batch, settings.get("in_channels", 4), frames, height, width),
        "timestep": torch.tensor([7, 600])[:batch],
        "encoder_hidden_states": torch.randn(batch, 5, 12),
    }
    if "time_cond_proj_dim" in settings:
        given["timestep_cond"] = torch.randn(batch, 6)
    return given


@torch.no_grad()
def both(networks: tuple[Any, Any], given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    ours, reference = (network(**given, return_dict=False)[0] for network in networks)
    return ours, reference


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_unet_agrees(variant, size):
    settings = VARIANTS[variant]
    assert relative_error(*both(unets(**settings), inputs(settings, *size))) < TOLERANCE


def test_the_unet_agrees_with_residuals_and_one_timestep_for_all():
    networks = unets()
    given = inputs({})
    sizes = ((16, 8, 6), (16, 8, 6), (16, 4, 3), (32, 4, 3), (32, 2, 2), (32, 2, 2))
    residuals = [torch.randn(6, *size) for size in sizes]
    extra = {"down_block_additional_residuals": residuals, "mid_block_additional_residual": torch.randn(6, 32, 2, 2)}
    plain = both(networks, given)[0]
    for more in ({"timestep": 7}, extra):
        changed, reference = both(networks, {**given, **more})
        assert relative_error(changed, reference) < TOLERANCE
        assert relative_error(changed, plain) > 1e-3


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


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_chunks_of_the_feed_forward_agree(dim, chunk_size):
    networks = unets()
    given = inputs({}, frames=4)
    plain = both(networks, given)[0]
    networks[0].enable_forward_chunking(chunk_size, dim)
    if dim == 0 or chunk_size is None:  # the reference asks for a whole number of chunks
        networks[1].enable_forward_chunking(chunk_size, dim)
    assert relative_error(*both(networks, given)) < TOLERANCE
    networks[0].disable_forward_chunking()
    assert torch.equal(both(networks, given)[0], plain)


def test_processors_can_be_replaced_by_name():
    ours, reference = unets()
    given = inputs({})
    plain, _ = both((ours, reference), given)
    assert ours.attn_processors.keys() == reference.attn_processors.keys()

    class Doubled(AttnProcessor):
        def __call__(self, *args, weight=1.0, **kwargs):
            return weight * super().__call__(*args, **kwargs)

    ours.set_attn_processor({name: Doubled() for name in ours.attn_processors})
    with torch.no_grad():
        assert torch.equal(ours(**given)[0], plain)
        assert relative_error(ours(**given, cross_attention_kwargs={"weight": 2.0})[0], plain) > 1e-3
    ours.set_default_attn_processor()
    assert torch.equal(both((ours, reference), given)[0], plain)


def test_the_keys_and_values_of_a_prompt_are_computed_once_for_all_frames_and_steps():
    ours, _ = unets()
    rows = []
    layer = ours.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    layer.to_k.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    predict = remembering_prompts(ours)
    given = inputs({}, frames=5)
    with torch.no_grad():
        first, second = predict(**given)[0], predict(**given)[0]
    assert rows == [2] and torch.equal(first, second)


def test_gradients_are_the_references_and_the_same_when_blocks_are_computed_again():
    ours, reference = unets()
    gradients = []
    for network, switch in ((ours, False), (ours, True), (reference, False)):
        if switch:
            network.enable_gradient_checkpointing()
        network.zero_grad()
        network(**inputs({}))[0].square().mean().backward()
        gradients.append(network.conv_in.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])
    assert relative_error(gradients[0], gradients[2]) < 1e-4


def test_bfloat16_is_as_near_to_float32_as_the_references():
    ours, reference = unets()
    given = inputs({})
    exact = both((ours, reference), given)[1]
    half = {name: value.bfloat16() if torch.is_floating_point(value) else value for name, value in given.items()}
    errors = [relative_error(result.float(), exact) for result in both((ours.bfloat16(), reference.bfloat16()), half)]
    assert errors[0] < 1.1 * errors[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"down_block_types": ("DownBlock3D",)}, "down_block_types must be"),
        ({"up_block_types": ("UpBlock3D", "UpBlock3D", "UpBlockMotion")}, "up_block_types must be"),
        ({"attention_head_dim": 24}, "attention_head_dim .24. is wider than a block of 16 channels"),
    ],
)
def test_networks_of_other_models_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UNet3DConditionModel(**{**SMALL, **settings})


def test_what_has_no_effect_is_refused():
    ours, _ = unets()
    for name in ("class_labels", "attention_mask"):
        with pytest.raises(ValueError, match=f"{name} has no effect on this network"):
            ours(**inputs({}), **{name: torch.ones(2)})


def test_a_config_that_counts_heads_is_refused():
    assert UNet3DConditionModel.from_config({**SMALL, "num_attention_heads": None})
    with pytest.raises(ValueError, match="num_attention_heads=4"):
        UNet3DConditionModel.from_config({**SMALL, "num_attention_heads": 4})
