"""The U-Net of I2VGen-XL gives the reference's numbers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from filmstrip.models.i2vgen_xl.unet import I2VGenXLUNet
from filmstrip.nn.attention_layers import AttnProcessor
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
SMALL: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
    "attention_head_dim": 8,
    "layers_per_block": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one head": {"attention_head_dim": 16},
    "many heads": {"attention_head_dim": 4, "layers_per_block": 2},
    "three levels": {
        "block_out_channels": (24, 48, 48),
        "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
    },
    "other channels": {"in_channels": 5, "out_channels": 3, "cross_attention_dim": 20},
}
SIZES = [(2, 3, 8, 8), (1, 5, 10, 14), (2, 1, 9, 7), (1, 2, 36, 33)]  # videos, frames, height, width


def unets(**settings: Any) -> tuple[Any, Any]:
    """Ours and the reference's with the same weights."""
    reference = randomise(diffusers.I2VGenXLUNet(**{**SMALL, **settings}))
    return transplant(I2VGenXLUNet(**{**SMALL, **settings}), reference), reference


def inputs(settings: dict[str, Any], batch: int = 2, frames: int = 3, height: int = 8, width: int = 6) -> Any:
    torch.manual_seed(1)
    dim = settings.get("cross_attention_dim", 12)
    return {
        "sample": torch.randn(batch, settings.get("in_channels", 4), frames, height, width),
        "timestep": torch.tensor([7, 600])[:batch],
        "fps": torch.tensor([16, 3])[:batch],
        "image_latents": torch.randn(batch, 4, frames, height, width),
        "image_embeddings": torch.randn(batch, 1, dim),
        "encoder_hidden_states": torch.randn(batch, 5, dim),
    }


@torch.no_grad()
def both(networks: tuple[Any, Any], given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    ours, reference = (network(**given, return_dict=False)[0] for network in networks)
    return ours, reference


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_unet_agrees(variant, size):
    settings = VARIANTS[variant]
    assert relative_error(*both(unets(**settings), inputs(settings, *size))) < TOLERANCE


def test_every_input_has_its_part_in_the_prediction():
    networks = unets()
    given = inputs({})
    plain = both(networks, given)[0]
    for name in given:
        changed, reference = both(networks, {**given, name: given[name].flip(0)})
        assert relative_error(changed, reference) < TOLERANCE
        assert relative_error(changed, plain) > 1e-3, name


def test_one_timestep_and_one_rate_serve_all_videos():
    networks = unets()
    given = inputs({})
    rows = both(networks, {**given, "timestep": torch.tensor([7, 7]), "fps": torch.tensor([16, 16])})
    one = both((networks[0], networks[0]), {**given, "timestep": 7, "fps": 16})[0]
    assert torch.equal(one, rows[0]) and relative_error(*rows) < TOLERANCE


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
def test_chunks_of_the_feed_forward_agree(dim):
    networks = unets()
    given = inputs({}, frames=4)
    for network in networks:
        network.enable_forward_chunking(None, dim)
    assert relative_error(*both(networks, given)) < TOLERANCE


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


def test_gradients_are_the_references():
    ours, reference = unets()
    for network in (ours, reference):
        network(**inputs({}))[0].square().mean().backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        assert relative_error(parameter.grad, theirs[name].grad) < 1e-3, name


def test_bfloat16_is_as_near_to_float32_as_the_references():
    ours, reference = unets()
    given = inputs({})
    exact = both((ours, reference), given)[1]
    half = {name: value.bfloat16() if torch.is_floating_point(value) else value for name, value in given.items()}
    errors = [relative_error(result.float(), exact) for result in both((ours.bfloat16(), reference.bfloat16()), half)]
    assert errors[0] < 1.1 * errors[1]


def test_the_older_name_of_the_width_of_a_head_is_taken_where_it_says_the_same():
    assert I2VGenXLUNet.from_config({**SMALL, "num_attention_heads": 8}).config.attention_head_dim == 8
    with pytest.raises(ValueError, match=r"num_attention_heads .4. is another name of attention_head_dim .8."):
        I2VGenXLUNet.from_config({**SMALL, "num_attention_heads": 4})


def test_what_has_no_effect_is_refused():
    ours, _ = unets()
    with pytest.raises(ValueError, match="timestep_cond has no effect"):
        ours(**inputs({}), timestep_cond=torch.ones(2, 16))
