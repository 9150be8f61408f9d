"""Weights in fewer bits on an accelerator, whose products take them as they are."""

import pytest
import torch

from filmstrip.memory.quantization import KINDS
from tests.contract.runs import fresh, over, relative_error, video
from tests.contract.test_quantization import BOUNDS, ONE_OF_EACH
from tests.gpu.accelerator import DEVICE, check_noise, error, needs_real, needs_streams, on_device, there

pytest.importorskip("torchao", reason="weights are quantised by torchao")
pytestmark = [pytest.mark.gpu, needs_real]


@over(ONE_OF_EACH)
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_bounded(case, kind):
    check_noise(case)
    pipeline = there(case, torch.bfloat16)
    reports = pipeline.quantize(kind)
    made = video(case, pipeline)
    assert made.dtype == torch.bfloat16
    assert error(made, case) < case.bfloat16_error + BOUNDS[kind]
    assert relative_error(made.cpu(), on_device(case.name, torch.bfloat16)) > 1e-5, "something was rounded"
    if kind != "int4":  # whose weights are padded to sizes that tiny layers don't have
        assert all(report.bytes_saved > 0 for report in reports.values())


@over(ONE_OF_EACH)
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_offloading_quantised_weights_changes_nothing(case, kind):
    expected, pipeline = there(case, torch.bfloat16), fresh(case).to(torch.bfloat16)
    for one in (expected, pipeline):
        one.quantize(kind)
    pipeline.enable_model_cpu_offload(device=DEVICE)
    assert torch.equal(video(case, pipeline), video(case, expected))


@needs_streams
@over(ONE_OF_EACH)
def test_quantised_weights_come_over_a_stream(case):
    pipeline = fresh(case).to(torch.bfloat16)
    pipeline.quantize("int8")
    pipeline.enable_group_offload(DEVICE, use_stream=True)
    first = video(case, pipeline)
    assert torch.equal(video(case, pipeline), first)
    expected = there(case, torch.bfloat16)
    expected.quantize("int8")
    assert torch.equal(video(case, expected), first)


@over(ONE_OF_EACH)
def test_four_bits_are_packed_for_the_device_where_they_are(case):
    pipeline = there(case, torch.bfloat16)
    pipeline.quantize("int4")
    with pytest.raises(ValueError, match="packed for"):
        pipeline.to("cpu")
    with pytest.raises(ValueError, match=r"computes in torch\.bfloat16"):
        there(case).quantize("int4")
