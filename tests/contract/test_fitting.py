"""Every pipeline fits into the memory that it is given, or says what it would take."""

from __future__ import annotations

import logging

import pytest
import torch

from filmstrip.fitting.plan import DoesNotFitError, Planner
from filmstrip.fitting.usual import usual_request
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over, over_all, video
from tests.contract.test_footprint import KERNELS, measured

PLENTY = 10**9
# One of each family: what goes through all that there is to choose from takes long.
FAMILIES = list({case.pipeline_class.__module__.split(".")[2]: case for case in reversed(CASES)}.values())


def planner_of(case, device="cpu"):
    pipeline = fresh(case)
    return pipeline, Planner(pipeline, usual_request(pipeline, case.call), torch.device(device))


@over_all
def test_with_plenty_of_memory_nothing_changes(case):
    pipeline = fresh(case)
    plan = pipeline.fit(PLENTY, device="cpu", **case.call)

    assert plan.cost == 0
    assert torch.equal(video(case, pipeline), video(case))


@over(FAMILIES)
def test_on_an_accelerator_less_memory_is_met_by_better_plans_until_none_is_left(case):
    # The meta device stands for one: plans are made without it.
    _, planner = planner_of(case, "meta")
    least = planner.least()
    costs = []
    for share in (1.0, 1.2, 2.0, 5.0):
        memory = int(share * least.memory)
        plan = planner.plan(memory)
        assert plan.peak <= memory
        costs.append(plan.cost)
    assert costs == sorted(costs, reverse=True)
    with pytest.raises(DoesNotFitError, match="Give"):
        planner.plan(least.memory // 2)


@over([case for case in CASES if case.embeddings is not None])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_embeddings_in_place_of_prompts_can_be_planned_for(case, device):
    pipeline = fresh(case)
    given = {**case.call, **case.embeddings(pipeline, case.call)}
    planner = Planner(pipeline, usual_request(pipeline, given), torch.device(device))
    assert planner.plan(PLENTY).cost == 0
    assert planner.least().peak <= planner.plan(PLENTY).peak


@over(FAMILIES)
def test_a_plan_for_half_of_the_memory_is_kept_to_and_makes_room_for_another(case):
    pipeline, planner = planner_of(case)
    before = {name: value for name, value in vars(pipeline.vae).items() if name[0] != "_"}
    usual, least = planner.plan(PLENTY), planner.least()
    memory = (usual.peak + least.memory) // 2 if usual.peak > least.memory else least.memory

    plan = pipeline.fit(memory, device="cpu", **case.call)
    weights = sum(one.nbytes for network in pipeline.networks.values() for one in network.state_dict().values())
    real = measured(pipeline, pipeline.request(**case.call, output_type="pt"))

    assert plan.peak <= memory
    for stage, need in plan.needs.items():
        whole = weights + real[stage]
        assert need == pytest.approx(whole, abs=0.1 * whole + KERNELS), stage

    pipeline.fit(PLENTY, device="cpu", **case.call)
    assert {name: value for name, value in vars(pipeline.vae).items() if name in before} == before
    assert pipeline.defaults.get("sequential_guidance") is None


@over_all
def test_a_plan_is_told_in_words(case, caplog):
    pipeline = fresh(case)
    with caplog.at_level(logging.WARNING, logger="filmstrip"):
        plan = pipeline.fit("1GB", device="cpu", **case.call)
        pipeline.fit("1GB", device="cpu", is_quiet=True, **case.call)

    assert caplog.text.count("memory      1 GB on cpu") == 1
    for stage in ("encode", "denoise", "decode"):
        assert f"{stage:12}" in str(plan)


def test_a_size_that_makes_no_sense_is_an_error():
    with pytest.raises(ValueError, match="'5GB'"):
        fresh(CASES[0]).fit("lots", device="cpu", **CASES[0].call)


@over([case for case in CASES if "height" in case.parameters])
def test_what_is_wrong_with_a_call_is_told(case):
    given = {name: value for name, value in case.call.items() if name != "height"}
    with pytest.raises(ValueError, match="height"):
        fresh(case).fit("1GB", device="cpu", height=-8, **given)
    unsaid = [name for name in case.call if name not in ("image", "video", "control_video", "conditions")]
    with pytest.raises(ValueError, match="height"):
        fresh(case).fit("1GB", device="cpu", **{**{name: case.call[name] for name in unsaid}, "height": -8})
