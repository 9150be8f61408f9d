"""Half precision, and values that are not finite."""

import pytest
import torch
from torch import nn

from filmstrip.checkpoints import dtypes
from filmstrip.generation.finite import NonFiniteError
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over_all, relative_error, shared, video


def drawn(dtype):
    return torch.randn(32, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)


# Early versions draw other noise in half types than in float32 from the same seed, and so make another video.
same_noise = pytest.mark.skipif(
    not torch.equal(drawn(torch.bfloat16), drawn(torch.float32)), reason="this torch draws other noise in half types"
)


@same_noise
@over_all
def test_bfloat16_is_finite_and_near_float32(case):
    half = video(case, fresh(case).to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert bool(half.isfinite().all())
    assert 0 < relative_error(half, video(case)) < case.bfloat16_error


# Where all scores of a token are NaN, torch's attention for CPUs gives zeros: what makes scores can't show them.
SCORING = ("to_q", "to_k")


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
            if name.endswith(SCORING):
                continue
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


def decoder_that_overflows(case):
    """A pipeline whose decoder's first layer gives numbers beyond float16's, which its norms then make small again."""
    pipeline = fresh(case)
    first = next(
        one
        for name, one in pipeline.vae.named_modules()
        if name.startswith("decoder.") and isinstance(one, nn.modules.conv._ConvNd)
    )
    with torch.no_grad():
        first.weight.mul_(3e4 / first.weight.abs().max())
    return pipeline


@same_noise
@over_all
def test_float16_is_near_float32(case, caplog):
    half = video(case, fresh(case).to(torch.float16))
    assert half.dtype in (torch.float16, torch.float32)  # of a decoder that is known to overflow
    assert 0 < relative_error(half, video(case)) < case.bfloat16_error
    expected = video(case, decoder_that_overflows(case))
    assert relative_error(video(case, decoder_that_overflows(case).to(torch.bfloat16)), expected) < 0.1
    overflowing = decoder_that_overflows(case).to(torch.float16)
    assert relative_error(video(case, overflowing), expected) < case.bfloat16_error
    assert overflowing.vae.dtype == torch.float16
    is_known = half.dtype == torch.float32
    assert ("Decoding overflowed in float16 and continues in float32" in caplog.text) != is_known
    for parameter in overflowing.vae.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"^The vae gave values that are not finite"):
        video(case, overflowing)


def test_what_overflows_in_float16_stays_in_float32_however_it_is_asked_for(tmp_path):
    pipeline = fresh(next(case for case in CASES if case.pipeline == "LTXPipeline"))
    pipeline.save_pretrained(tmp_path)
    loaded = type(pipeline).from_pretrained(tmp_path, torch_dtype=torch.float16)
    for half in (loaded, pipeline.to(torch.float16)):
        dtypes = {name: one.dtype for name, one in half.text_encoder.named_parameters()}
        assert {name for name, dtype in dtypes.items() if dtype == torch.float32} == {
            name for name in dtypes if name.endswith(".wo.weight")
        }
        assert set(dtypes.values()) == {torch.float16, torch.float32}
    pipeline.to(torch.bfloat16)
    assert {one.dtype for one in pipeline.text_encoder.parameters()} == {torch.bfloat16}


def test_float16_for_weights_in_bfloat16_is_warned_of(caplog):
    dtypes._say_that_it_overflows.cache_clear()
    pipeline = fresh(CASES[0])
    pipeline.to(torch.float16)
    assert caplog.text == ""
    fresh(CASES[0]).to(torch.bfloat16).to(torch.float16)
    assert "weights that are published in bfloat16 may overflow in float16" in caplog.text
