"""What a component is for decides what becomes of it: here on a pipeline with two networks that denoise."""

from typing import ClassVar

import pytest
import torch

import filmstrip
from filmstrip.fitting.plan import Planner
from filmstrip.fitting.usual import usual_request
from filmstrip.memory.residency import Grain, place
from filmstrip.roles import USUAL, Role, role_of
from tests.families.toy_cases import CASE
from tests.memory.counting import present
from tests.memory.other_device import OTHER, install

BOTH = ["transformer", "transformer_2"]


@pytest.fixture
def pipeline(toy):
    made = CASE.make()
    made.set_progress_bar_config(disable=True)
    return made


def test_a_name_says_the_role_unless_the_pipeline_does():
    assert role_of("text_encoder_3", {}) is Role.TEXT_ENCODER
    assert role_of("connector", {}) is None
    assert role_of("connector", {"connector": Role.TEXT_ENCODER}) is Role.TEXT_ENCODER
    assert role_of("transformer", {"transformer": Role.UPSAMPLER}) is Role.UPSAMPLER
    assert set(USUAL.values()) == set(Role)


def test_both_are_quantised_unless_names_are_given(pipeline):
    assert list(pipeline.quantize("int8")) == BOTH
    assert list(pipeline.quantized) == BOTH


def test_both_are_on_the_device_side_by_side(pipeline, monkeypatch):
    install(monkeypatch)
    assert list(pipeline._work_together) == BOTH
    place(pipeline.networks, OTHER, Grain("components"), together=pipeline._work_together)
    there = [
        present(pipeline.networks)
        for event in pipeline.stream(**CASE.call, output_type="pt")
        if event.stage == "denoise"
    ]
    assert BOTH in there


def one_at_a_time(pipeline):
    """The same as a pipeline that says that its networks take turns only once."""

    class OneAtATime(type(pipeline)):
        _work_together = ()

    return OneAtATime.from_pipe(pipeline)


def need_of_denoising(pipeline):
    """What a plan says that denoising needs where networks come whole, and which of them come."""
    planner = Planner(pipeline, usual_request(pipeline, CASE.call), torch.device("meta"))
    coming = (whole for whole in planner.alternatives.whole if set((whole[1].value or {}).values()) == {"components"})
    whole = next(coming)
    return planner.need("denoise", whole, ()), set(whole[1].value)


def test_both_are_in_the_plan(pipeline):
    weights = [sum(one.nbytes for one in pipeline.networks[name].parameters()) for name in BOTH]
    together, networks = need_of_denoising(pipeline)
    in_turn, _ = need_of_denoising(one_at_a_time(pipeline))
    assert networks == set(pipeline.networks)
    assert together - in_turn == pytest.approx(weights[0], rel=0.01)


def test_an_autoencoder_of_another_name_is_switched(toy):
    class Renamed(filmstrip.Pipeline):
        roles: ClassVar = {"coder": Role.AUTOENCODER}

        def __init__(self, coder):
            super().__init__(coder=coder)

    coder = CASE.make().vae
    pipeline = Renamed(coder)
    pipeline.enable_vae_tiling()
    pipeline.enable_vae_slicing()
    assert coder.use_tiling and coder.use_slicing
    pipeline.disable_vae_tiling()
    pipeline.disable_vae_slicing()
    assert not coder.use_tiling and not coder.use_slicing
