"""Convolutions and attention along time compute what the reference's compute, recorded or not, in any layout."""

import pytest
import torch
from diffusers.models.resnet import TemporalConvLayer as TheirConv
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel as TheirTransformer

from filmstrip.nn.temporal import TEMPORAL_CALLS, TemporalConvLayer, TemporalTransformer, as_frames, as_videos
from filmstrip.nn.unet import Conditions, MidBlock
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
SHAPES = [(1, 5, 4, 6), (2, 3, 5, 3), (3, 1, 1, 7), (2, 16, 2, 2)]  # videos, frames, height, width


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditions(num_frames, **more):
    return Conditions(torch.zeros(1, 1), num_frames=num_frames, **more)


def convs(channels=16, groups=4):
    theirs = randomise(TheirConv(channels, channels, dropout=0.1, norm_num_groups=groups))
    return transplant(TemporalConvLayer(channels, groups, 0.1), theirs), theirs


def transformers(heads=2, head_dim=6, layers=1, channels=16, groups=4):
    theirs = TheirTransformer(heads, head_dim, channels, num_layers=layers, norm_num_groups=groups)
    return transplant(TemporalTransformer(channels, heads, head_dim, layers, groups), randomise(theirs)), theirs


@pytest.mark.parametrize("is_recording", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_temporal_convolution(shape, is_recording):
    ours, theirs = convs(*((24, 8) if shape[0] == 1 else (16, 4)))
    videos, frames, height, width = shape
    pictures = normal(videos * frames, ours.conv1[2].in_channels, height, width)
    kept = pictures.clone()
    with torch.set_grad_enabled(is_recording):
        expected = theirs(pictures, num_frames=frames)
        for given in (pictures, pictures.contiguous(memory_format=torch.channels_last)):
            assert relative_error(ours(given, frames).detach(), expected.detach()) < TOLERANCE
    assert relative_error(expected.detach(), pictures) > 0.1, "a layer that does nothing would agree as well"
    assert torch.equal(pictures, kept), "the input is still needed elsewhere"


@pytest.mark.parametrize("is_recording", [True, False])
@pytest.mark.parametrize(("heads", "head_dim", "layers"), [(2, 6, 1), (1, 16, 2), (3, 8, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_temporal_transformer(shape, heads, head_dim, layers, is_recording):
    ours, theirs = transformers(heads, head_dim, layers)
    videos, frames, height, width = shape
    pictures = normal(videos * frames, 16, height, width)
    with torch.set_grad_enabled(is_recording):
        expected = theirs(pictures, num_frames=frames)[0]
        for given in (pictures, pictures.contiguous(memory_format=torch.channels_last)):
            assert relative_error(ours(given, conditions(frames)).detach(), expected.detach()) < TOLERANCE
    assert relative_error(expected.detach(), pictures) > 0.1


def test_both_learn_as_the_references_do():
    for (ours, theirs), given in ((convs(), {}), (transformers(), {"return_dict": False})):
        pictures = normal(6, 16, 3, 4)
        arguments = 3 if isinstance(ours, TemporalConvLayer) else conditions(3)
        ours(pictures, arguments).square().sum().backward()
        result = theirs(pictures, num_frames=3, **given)
        (result if isinstance(result, torch.Tensor) else result[0]).square().sum().backward()
        others = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            assert relative_error(parameter.grad, others[name].grad) < TOLERANCE, name


def test_a_temporal_convolution_drops_values_in_training_only():
    ours, _ = convs()
    pictures = normal(6, 16, 3, 4)
    assert torch.equal(ours(pictures, 3), ours(pictures, 3))
    ours.train()
    assert not torch.equal(ours(pictures, 3), ours(pictures, 3))


@torch.no_grad()
def test_a_position_sees_itself_in_all_frames_and_no_other_video():
    ours, _ = transformers()
    ours.norm = torch.nn.Identity()  # since it alone looks at all positions
    pictures = normal(6, 16, 3, 4)
    changed = pictures.clone()
    changed[0, :, 1, 2] *= -1
    plain, moved = (ours(given, conditions(3)) for given in (pictures, changed))
    differs = (plain != moved).any(dim=1)
    assert differs[:3, 1, 2].all() and int(differs.sum()) == 3


@torch.no_grad()
def test_neither_the_prompt_nor_masks_reach_the_frames():
    ours, _ = transformers()
    pictures = normal(6, 16, 3, 4)
    given = conditions(
        3,
        encoder_hidden_states=normal(6, 5, 12),
        attention_mask=normal(6, 1, 12),
        encoder_attention_mask=normal(6, 1, 5),
    )
    assert torch.equal(ours(pictures, given), ours(pictures, conditions(3)))


@torch.no_grad()
def test_processors_of_frames_are_given_what_the_call_hands_on():
    ours, _ = transformers()
    seen = []

    def processor(attn, hidden_states, encoder_hidden_states=None, attention_mask=None, weight=1.0):
        seen.append((tuple(hidden_states.shape), encoder_hidden_states, attention_mask, weight))
        return hidden_states

    for layer in (ours.transformer_blocks[0].attn1, ours.transformer_blocks[0].attn2):
        layer.set_processor(processor)
    ours(normal(6, 16, 3, 4), conditions(3, cross_attention_kwargs={"weight": 2.0}))
    assert seen == [((24, 3, 12), None, None, 2.0)] * 2  # 2 videos of 12 positions, 3 frames


@torch.no_grad()
def test_both_are_columns_of_a_block():
    (conv, their_conv), (transformer, their_transformer) = convs(), transformers()
    columns = {"temp_convs": [conv, conv], "temp_attentions": [transformer]}
    block = MidBlock(columns, TEMPORAL_CALLS, ends=("temp_convs",))
    pictures = normal(6, 16, 3, 4)
    expected = their_transformer(their_conv(pictures, num_frames=3), num_frames=3)[0]
    assert relative_error(block(pictures, conditions(3)), their_conv(expected, num_frames=3)) < TOLERANCE


def test_frames_are_taken_apart_and_put_together():
    pictures = normal(6, 2, 3, 4)
    videos = as_videos(pictures, 3)
    assert torch.equal(videos[1, :, 2], pictures[5]) and videos.data_ptr() == pictures.data_ptr()
    assert torch.equal(as_frames(videos), pictures)
