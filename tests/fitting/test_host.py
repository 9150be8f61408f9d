"""What plans need of the machine's own memory, and what they do where that is little."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from filmstrip.checkpoints.mapping import map_to_disk
from filmstrip.fitting.host import waiting_bytes, waiting_bytes_by_headers
from filmstrip.fitting.plan import DoesNotFitError, Planner
from filmstrip.fitting.usual import usual_request
from tests.cli.tiny_checkpoint import tiny_pipeline

ELSEWHERE = torch.device("meta")
PLENTY = 10**9


def planner(waiting, host):
    pipeline = tiny_pipeline()
    request = usual_request(pipeline, {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2})
    return Planner(pipeline, request, ELSEWHERE, waiting=dict.fromkeys(pipeline.networks, waiting), host=host)


def test_weights_in_files_need_no_memory_where_they_wait(tmp_path):
    network = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    size = 2 * (16 * 16 + 16) * 4
    assert waiting_bytes({"a": network}) == {"a": size}
    map_to_disk(network, tmp_path / "a.safetensors")
    assert waiting_bytes({"a": network}) == {"a": 0}
    assert waiting_bytes({"a": network.to("meta")}) == {"a": 0}


def test_what_is_converted_or_laid_out_anew_does_not_stay_in_the_file():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.Linear(10, 10, bias=False))
    numbers = 4 * 4 * 9 + 100
    as_it_is = {torch.bfloat16: 2 * numbers}
    assert waiting_bytes_by_headers(network, as_it_is, torch.bfloat16) == 0
    assert waiting_bytes_by_headers(network, {torch.float32: 4 * numbers}, torch.bfloat16) == 2 * numbers
    network[0].to(memory_format=torch.channels_last)
    assert waiting_bytes_by_headers(network, as_it_is, torch.bfloat16) == 2 * 4 * 4 * 9


def test_where_the_host_has_no_room_weights_stay_in_their_files():
    free, tight = planner(0, None), planner(0, 0)
    assert {whole[0].value for whole in free.alternatives.whole} == {None, torch.bfloat16}
    assert {whole[0].value for whole in tight.alternatives.whole} == {None}
    plan = tight.plan(PLENTY)
    assert plan.host == 0
    assert "weights lie in their files" in dict(plan.lines())["host"]
    assert free.least().host == sum(free._rehearsal(torch.bfloat16).sizes.values())


def test_a_host_that_can_not_hold_what_waits_is_told_what_would_help():
    with pytest.raises(
        DoesNotFitError, match=r"need \d+ MB of the machine's own memory, of which 0.1 MB is free; load"
    ):
        planner(10**7, 10**5).plan(PLENTY)
