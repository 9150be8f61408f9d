"""Every pipeline on the accelerator, against float32 on the CPU."""

import pytest
import torch

from filmstrip.generation.finite import NonFiniteError
from tests.contract.runs import over, over_all, video
from tests.gpu.accelerator import DEVICE, FAMILIES, FLOAT32_ERROR, HALF_TYPES, check_noise, error, on_device, there

pytestmark = pytest.mark.gpu


@over_all
def test_float32_is_that_of_the_cpu(case):
    assert error(on_device(case.name), case) < FLOAT32_ERROR


@over_all
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=["bfloat16", "float16"])
def test_half_types_are_finite_and_near_float32(case, dtype):
    check_noise(case)
    made = on_device(case.name, dtype)
    assert made.dtype in (dtype, torch.float32), "autoencoders that overflow in a half type decode in float32"
    assert 0 < error(made, case) < case.bfloat16_error


@over(FAMILIES)
def test_a_pipeline_that_is_moved_leaves_nothing_behind(case):
    pipeline = there(case)
    for name, network in pipeline.networks.items():
        places = {tensor.device.type for tensor in (*network.parameters(), *network.buffers())}
        assert places == {DEVICE.type}, name
    assert pipeline.device.type == DEVICE.type


@over(FAMILIES)
def test_a_value_that_is_not_finite_is_found_there_too(case):
    pipeline = there(case)
    name, network = next(
        (name, one) for name, one in pipeline.networks.items() if name in ("transformer", "unet", "vae")
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=f"^The {name} gave values that are not finite"):
        video(case, pipeline)
