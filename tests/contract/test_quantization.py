"""Weights in fewer bits change the video little, and everything that works with weights works with these."""

import pytest
import torch

from filmstrip.fitting.rehearsal import STAGES, footprint
from filmstrip.memory.quantization import KINDS
from filmstrip.roles import Role
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over, relative_error, shared, video
from tests.contract.test_footprint import KERNELS, measured

pytest.importorskip("torchao")

DENOISING = [case for case in CASES if shared(case.name).named(Role.DENOISER)]
ONE_OF_EACH = list({case.pipeline_class.component_names(): case for case in DENOISING}.values())
"""A case for each set of components: what they do with their weights does not depend on the task."""
# Of videos in [-1, 1] against float32; measured are 0.0164, 0.072 and 0.102 at most, all of them on Text2Video-Zero XL.
BOUNDS = {"int8": 0.03, "fp8": 0.12, "int4": 0.2}


@over(DENOISING)
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_bounded_and_bytes_are_saved(case, kind):
    pipeline = fresh(case)
    reports = pipeline.quantize(kind)
    assert 1e-5 < relative_error(video(case, pipeline), video(case)) < BOUNDS[kind]
    for name, report in reports.items():
        network = shared(case.name).networks[name]
        changed = sum(network.get_submodule(layer).weight.nbytes for layer in report.layers)
        assert report.bytes_saved > (0.7 if kind == "int4" else 0.6) * changed > 0
        assert all(reason for reason in report.kept.values())


@over(ONE_OF_EACH)
def test_the_error_of_bfloat16_stays_small(case):
    pipeline = fresh(case).to(torch.bfloat16)
    pipeline.quantize("int8")
    result = video(case, pipeline)
    assert result.dtype == torch.bfloat16
    assert relative_error(result, video(case)) < case.bfloat16_error + BOUNDS["int8"]


@over(case for case in ONE_OF_EACH if case.takes("prompt"))
def test_text_encoders_can_be_quantised_too(case):
    pipeline = fresh(case)
    encoders = list(pipeline.named(Role.TEXT_ENCODER))
    pipeline.quantize("int8", encoders)
    assert pipeline.quantized.keys() == set(encoders)
    assert 0 < relative_error(video(case, pipeline), video(case)) < BOUNDS["int8"]


@over(ONE_OF_EACH)
def test_the_memory_of_every_stage_is_known_before(case):
    pipeline = fresh(case)
    pipeline.quantize("int8")

    def request():
        return pipeline.request(**case.call, generator=torch.Generator().manual_seed(0), output_type="pt")

    predicted, real = footprint(pipeline, request(), "cpu"), measured(pipeline, request())
    for stage in STAGES:
        assert predicted.activations(stage) == pytest.approx(real[stage], rel=0.1, abs=KERNELS), stage
