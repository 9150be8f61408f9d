"""Half precision, and values that are not finite."""

import pytest
import torch
from torch import nn

from filmstrip.generation.finite import NonFiniteError
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over_all, relative_error, shared, video


@over_all
def test_bfloat16_is_finite_and_near_float32(case):
    half = video(case, fresh(case).to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert bool(half.isfinite().all())
    assert 0 < relative_error(half, video(case)) < case.bfloat16_error


def working_parts(case):
    """For each network and each of its children that has a part in the case's video: one parameter in use there."""
    pipeline = shared(case.name)
    found, handles = {}, []

    def note(component, child, name):
        def hook(*_):
            found.setdefault((component, child), name)

        return hook

    for component, network in pipeline.networks.items():
        for name, module in network.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)):
                place = (component, name.partition(".")[0], f"{name}.weight")
                handles.append(module.register_forward_hook(note(*place)))
    video(case)
    for handle in handles:
        handle.remove()
    return [(component, name) for (component, _), name in found.items()]


PARTS = [
    pytest.param(case, component, name, id=f"{case.name}: {component}, {name}")
    for case in CASES
    for component, name in working_parts(case)
]


def test_every_network_has_a_working_part():
    planted = {(parameters.values[0].name, parameters.values[1]) for parameters in PARTS}
    assert planted == {(case.name, component) for case in CASES for component in shared(case.name).networks}


@pytest.mark.parametrize(("case", "component", "name"), PARTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_reported_with_its_component(case, component, name, value):
    pipeline = fresh(case)
    weight = pipeline.components[component].get_parameter(name)
    with torch.no_grad():
        if isinstance(pipeline.components[component].get_submodule(name.rpartition(".")[0]), nn.Embedding):
            weight.fill_(value)  # most rows of a table are not looked up
        else:
            weight[torch.unravel_index(torch.tensor(weight.numel() // 2 - 1), weight.shape)] = value
    with pytest.raises(NonFiniteError, match=f"^The {component} gave values that are not finite"):
        video(case, pipeline)
