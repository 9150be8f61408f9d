"""Exactly the frames that were asked for, at exactly the size."""

import pytest

from filmstrip.generation.session import run
from tests.contract.runs import call, frames_of, over_all, over_those_with, request, shared, video

FAST = {"num_inference_steps": 1}


@over_those_with("num_frames", "num_inference_steps")
@pytest.mark.parametrize("num_frames", range(1, 21))
def test_exactly_the_frames_asked_for(case, num_frames, caplog):
    output = call(case, **FAST, num_frames=num_frames)
    assert frames_of(output).shape[1] == num_frames
    size = request(case, **FAST, num_frames=num_frames).size
    assert size.num_frames == num_frames <= size.generated_frames
    is_cut = size.generated_frames > num_frames
    assert is_cut == any(f"{size.generated_frames} are generated" in sentence for sentence in output.report.adjustments)
    assert output.report.adjustments == size.adjustments
    assert set(caplog.messages) == set(size.adjustments)


@over_those_with("num_frames", "num_inference_steps")
def test_cut_frames_are_the_last_ones(case):
    size = request(case, **FAST, num_frames=10).size
    cut, whole = (video(case, **FAST, num_frames=count) for count in (10, size.generated_frames))
    assert (whole[:, :10] == cut).all()
    assert size.generated_frames == 10 or whole.shape[1] > 10


@over_those_with("height", "width", "num_frames")
def test_the_size_is_exactly_the_one_asked_for(case):
    rules = shared(case.name).rules
    height, width = 2 * rules.size_multiple, 3 * rules.size_multiple
    assert video(case, **FAST, height=height, width=width).shape[-2:] == (height, width)


@over_those_with("height", "width")
@pytest.mark.parametrize("name", ["height", "width"])
def test_a_size_that_is_not_allowed_names_the_nearest(case, name):
    multiple = shared(case.name).rules.size_multiple
    with pytest.raises(
        ValueError, match=f"{name} must be a multiple of {multiple} .*use {3 * multiple} or {4 * multiple}"
    ):
        request(case, **{name: 3 * multiple + 1})
    with pytest.raises(ValueError, match=f"{name} must be a multiple of {multiple} .*use {multiple}."):
        request(case, **{name: 1})
    for nonsense in (0, -multiple, 1.5 * multiple, "64", True):
        with pytest.raises(ValueError, match=f"{name} must be a whole number"):
            request(case, **{name: nonsense})


@over_all
def test_events_tell_the_run_from_its_first_stage_to_its_last(case):
    events = list(run(shared(case.name), request(case)))
    stages = [event.stage for event in events]
    order = {"encode": 0, "denoise": 1, "decode": 2, "done": 3}
    assert sorted(stages, key=order.__getitem__) == stages and set(stages) == set(order)
    assert stages.count("done") == 1

    seconds = [event.seconds for event in events]
    assert seconds == sorted(seconds) and seconds[0] >= 0

    steps = [event for event in events if event.stage == "denoise"]
    assert [event.step for event in steps] == list(range(1, len(steps) + 1))
    assert {event.total for event in steps} == {len(steps)}
    if "num_inference_steps" in case.call:
        assert len(steps) == case.call["num_inference_steps"] + case.extra_steps
    assert all(event.latents is not None and event.timestep is not None for event in steps)

    frames = frames_of(events[-1].output)
    runs = [event.frames for event in events if event.stage == "decode"]
    assert (sum(event.shape[2] for event in runs)) == frames.shape[1]
    assert [event.step for event in events if event.stage == "decode"][-1] == frames.shape[1]
    position = 0
    for pixels in runs:
        joined = frames[:, position : position + pixels.shape[2]]
        assert ((pixels.movedim(1, 2) * 0.5 + 0.5).clamp(0, 1) - joined).abs().max() < 1e-6
        position += pixels.shape[2]

    report = events[-1].output.report
    assert set(report.seconds) == {"encode", "denoise", "decode"}
    assert 0 < sum(report.seconds.values()) <= seconds[-1]


@over_all
def test_frames_need_not_be_kept(case):
    events = list(run(shared(case.name), request(case), collect=False))
    assert frames_of(events[-1].output) is None
    assert any(event.frames is not None for event in events)


@over_all
def test_a_normal_run_says_nothing(case, caplog, recwarn):
    call(case)
    assert not caplog.messages
    assert not list(recwarn)
