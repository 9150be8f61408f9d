"""Steps of Text2Video-Zero are those of the solver, however often it calls the network for each."""

import pytest
import torch

import filmstrip
from tests.contract.registered import CASES

ZERO = next(case for case in CASES if case.pipeline == "TextToVideoZeroPipeline")
XL = next(case for case in CASES if case.pipeline == "TextToVideoZeroSDXLPipeline")
TWICE = ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"]


def made_with(case, scheduler, **call):
    """The pipeline, and the timestep and number of rows of each call of the network."""
    pipe, calls = case.make(), []
    pipe.scheduler = getattr(filmstrip, scheduler).from_config(pipe.scheduler.config)

    def told(pipe, step, timestep, tensors):
        calls.append((float(timestep), len(tensors["latents"])))
        return {}

    given = {**case.call, **call, "callback_on_step_end": told}
    pipe(**given, generator=torch.Generator().manual_seed(0))
    return pipe, calls


@pytest.mark.parametrize("name", TWICE)
def test_later_frames_begin_between_two_steps(name):
    pipe, calls = made_with(ZERO, name, num_inference_steps=4, t0=1, t1=2, video_length=3)
    run = pipe.scheduler.start(4)
    assert len(run.timesteps) == 7
    alone = [timestep for timestep, rows in calls if rows == 1]
    together = [timestep for timestep, rows in calls if rows == 3]
    assert alone == run.timesteps[: run.begins[2]].tolist()
    assert together == run.timesteps[run.begins[1] :].tolist()


@pytest.mark.parametrize("name", TWICE)
def test_as_many_steps_can_be_named_as_there_are(name):
    made_with(ZERO, name, num_inference_steps=4, t0=0, t1=3)
    with pytest.raises(ValueError, match="0 <= t0 < t1 < 4, got 1 and 4"):
        made_with(ZERO, name, num_inference_steps=4, t0=1, t1=4)


@pytest.mark.parametrize("name", TWICE)
def test_a_run_that_ends_before_the_end_makes_whole_steps(name):
    for share in (0.6, 0.75, 0.8):
        pipe, calls = made_with(XL, name, num_inference_steps=6, t0=3, t1=4, denoising_end=share)
        run = pipe.scheduler.start(6)
        made = sum(timestep in run.timesteps for timestep, rows in calls if rows > 1)
        assert run.begins[1] + made in run.begins
