"""What a call takes, as words and as values of plain data."""

import pytest

from filmstrip import LTXConditionPipeline, LTXPipeline
from filmstrip.jobs.calls import PipelineCall, parse_sides


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("num_inference_steps=30", 30),
        ("guidance-scale=2", 2),
        ("negative_prompt=blurry, dark", "blurry, dark"),
        ("negative_prompt=5", "5"),
        ("negative_prompt=a=b", "a=b"),
        ("timesteps=[1000, 500.5]", [1000, 500.5]),
        ("sequential_guidance=true", True),
        ("decode_noise_scale=null", None),
    ],
)
def test_a_value_is_json_or_else_text(assignment, value):
    parsed = PipelineCall(LTXPipeline).parse(assignment)[1]
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("assignment", ["num_frames=1.5", "num_frames=true", "timesteps=[1, x]", "timesteps=[true]"])
def test_a_value_of_another_type_is_refused(assignment):
    with pytest.raises(ValueError, match=r"--set (num_frames|timesteps) takes"):
        PipelineCall(LTXPipeline).parse(assignment)


@pytest.mark.parametrize("name", ["latents", "generator", "image", "attention_kwargs", "output_type"])
def test_what_no_text_can_say_is_not_set(name):
    call = PipelineCall(LTXConditionPipeline)
    assert name in call
    assert name not in call.settable


def test_each_settable_argument_is_one_of_the_call():
    call = PipelineCall(LTXPipeline)
    assert {"guidance_rescale", "max_sequence_length", "timesteps", "decode_timestep"} <= set(call.settable)


@pytest.mark.parametrize(("text", "size"), [("704x512", (704, 512)), (" 64 X 32 ", (64, 32))])
def test_a_size_is_width_by_height(text, size):
    assert parse_sides(text) == dict(zip(("width", "height"), size, strict=True))
