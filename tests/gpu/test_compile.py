"""Networks that are compiled for the accelerator give the video that they give as written."""

import pytest
import torch

from tests.contract.runs import over, relative_error, video
from tests.gpu.accelerator import DEVICE, FLOAT32_ERROR, ONE_OF_EACH, needs_real, on_device, there

pytestmark = [pytest.mark.gpu, needs_real]

DENOISERS = ("transformer", "unet")
COMPILED = [case for case in ONE_OF_EACH if set(DENOISERS) & set(case.pipeline_class.component_names())]


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def denoiser(pipeline):
    return next(network for name, network in pipeline.networks.items() if name in DENOISERS)


@over(COMPILED)
def test_a_denoiser_is_compiled_whole(case):
    pipeline = there(case)
    denoiser(pipeline).compile(fullgraph=True)
    made = video(case, pipeline)
    assert relative_error(made.cpu(), on_device(case.name)) < FLOAT32_ERROR
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    video(case, pipeline)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs, "a second run compiles nothing"


@over([case for case in COMPILED if "transformer" in case.pipeline_class.component_names()])
def test_repeated_blocks_are_compiled_and_may_be_offloaded(case):
    pipeline = there(case, torch.bfloat16)
    pipeline.transformer.compile_repeated_blocks(fullgraph=True)
    made = video(case, pipeline)
    assert relative_error(made.cpu(), on_device(case.name, torch.bfloat16)) < case.bfloat16_error
    pipeline.enable_group_offload(DEVICE)
    assert relative_error(video(case, pipeline).cpu(), made.cpu()) < case.bfloat16_error


@over(COMPILED[:1])
def test_a_compiled_network_may_wait_on_the_cpu(case):
    pipeline = there(case)
    name = next(name for name in DENOISERS if name in pipeline.networks)
    setattr(pipeline, name, torch.compile(pipeline.networks[name]))
    pipeline.enable_model_cpu_offload(device=DEVICE)
    assert relative_error(video(case, pipeline).cpu(), on_device(case.name)) < FLOAT32_ERROR
