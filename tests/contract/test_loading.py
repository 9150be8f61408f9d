"""Saving, loading, placing and sharing the components of a pipeline."""

import json

import pytest
import torch

import filmstrip
from tests.contract.registered import CASES
from tests.contract.runs import close, fresh, over, over_all, shared, video


@pytest.fixture
def folder(case, tmp_path):
    """The checkpoint of a case."""
    shared(case.name).save_pretrained(tmp_path)
    return tmp_path


# Weights in a mapped file need not begin at a multiple of 64 bytes, as those in memory do, and the CPU's kernels then
# sum in another order: a load agrees with what was saved within rounding, and with every other load exactly.
@over_all
def test_a_saved_pipeline_gives_the_same_video_by_whichever_class_it_is_loaded(case, folder):
    loaded = [
        loader.from_pretrained(folder)
        for loader in (case.pipeline_class, filmstrip.Pipeline, filmstrip.DiffusionPipeline)
    ]
    assert all(type(pipeline) is case.pipeline_class for pipeline in loaded)
    for name, network in shared(case.name).networks.items():
        state = loaded[0].components[name].state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
    first, *others = (video(case, pipeline) for pipeline in loaded)
    close(first, video(case))
    assert all(torch.equal(other, first) for other in others)


@over_all
def test_loading_in_a_type_equals_moving_to_it(case, folder):
    moved = fresh(case).to(torch.bfloat16)
    expected = video(case, moved)
    for name in ("torch_dtype", "dtype"):
        loaded = case.pipeline_class.from_pretrained(folder, **{name: torch.bfloat16})
        assert loaded.dtype == torch.bfloat16
        torch.testing.assert_close(video(case, loaded), expected, rtol=0, atol=2**-7)  # bfloat16's own rounding


@over_all
def test_components_that_are_passed_are_used_as_they_are(case, folder):
    components = shared(case.name).components
    for name, component in components.items():
        loaded = case.pipeline_class.from_pretrained(folder, **{name: component})
        assert loaded.components[name] is component
        assert getattr(loaded, name) is component
    close(video(case, loaded), video(case))


@over_all
def test_a_component_that_the_pipeline_has_not_is_refused(case, folder):
    with pytest.raises(ValueError, match="got flux_capacitor"):
        case.pipeline_class.from_pretrained(folder, flux_capacitor=1)
    with pytest.raises(ValueError, match="got flux_capacitor"):
        case.pipeline_class.from_pipe(shared(case.name), flux_capacitor=1)


@over_all
def test_defaults_survive_saving(case, tmp_path):
    pipeline = fresh(case)
    name = next(iter(pipeline.defaults))
    pipeline.defaults[name] = 32
    pipeline.save_pretrained(tmp_path)
    assert filmstrip.Pipeline.from_pretrained(tmp_path).defaults == pipeline.defaults


@over_all
def test_components_make_the_same_pipeline(case):
    pipeline = shared(case.name)
    assert set(pipeline.components) == set(case.pipeline_class.component_names())
    for twin in (case.pipeline_class(**pipeline.components), case.pipeline_class.from_pipe(pipeline)):
        assert twin is not pipeline
        assert all(twin.components[name] is component for name, component in pipeline.components.items())
        assert torch.equal(video(case, twin), video(case))


@over_all
def test_a_component_can_be_replaced(case):
    pipeline = fresh(case)
    for name, network in pipeline.networks.items():
        other = fresh(case).components[name]
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.5)
        setattr(pipeline, name, other)
        assert pipeline.components[name] is other
        assert not torch.equal(video(case, pipeline), video(case)), f"the {name} has no part in the video"
        setattr(pipeline, name, network)
    assert torch.equal(video(case, pipeline), video(case))


@over_all
def test_a_pipeline_moves_whole(case):
    pipeline = fresh(case)
    assert pipeline.to("cpu", torch.bfloat16) is pipeline
    assert pipeline.dtype == torch.bfloat16 and pipeline.device == torch.device("cpu")
    for network in pipeline.networks.values():
        assert {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()} == {
            torch.bfloat16
        }
    assert pipeline.to(dtype=torch.float32, device="cpu").dtype == torch.float32


@over([case for case in CASES if case.pipeline_class.flag_names()])
def test_flags_of_the_constructor_survive_saving_and_sharing(case, tmp_path):
    usual = fresh(case)
    turned = {name: not value for name, value in usual.flags.items()}
    assert set(turned) == set(case.pipeline_class.flag_names())
    pipeline = case.pipeline_class(**usual.components, **turned)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {name: index[name] for name in turned} == turned
    assert filmstrip.Pipeline.from_pretrained(tmp_path).flags == turned
    assert case.pipeline_class.from_pretrained(tmp_path, **usual.flags).flags == usual.flags
    assert case.pipeline_class.from_pipe(pipeline).flags == turned
    assert case.pipeline_class.from_pipe(pipeline, **usual.flags).flags == usual.flags
    for name, value in turned.items():
        assert getattr(pipeline, name) is value
        setattr(pipeline, name, not value)
    assert pipeline.flags == usual.flags
