"""Arguments as data: composed, completed, checked, documented."""

import dataclasses
import inspect
from dataclasses import KW_ONLY, dataclass

import pytest
import torch

from filmstrip.generation.arguments import (
    Arguments,
    Guided,
    Prompted,
    Rescaled,
    Sampled,
    Sized,
    argument,
    arguments_named,
    call,
    check_ranges,
    completed,
    documentation_of,
    facts_of,
    without_effect,
)


@dataclass(frozen=True, eq=False)
class Example(Rescaled, Sampled, Sized, Prompted):
    """A prompt, a size, steps and guidance, and one field of its own."""

    _: KW_ONLY
    blur: float = argument("how much to blur.", 0.5, range="share")


class Pipeline:
    """As much of a pipeline as a call needs."""

    __call__ = call(Example, dict, "Make something.")

    def requested(self, arguments):
        return completed(arguments, {"height": 64, "num_inference_steps": 4, "blur": 0.9})

    def returned(self, request):
        return request


def test_fields_of_the_last_base_come_first_and_the_rest_goes_by_name():
    parameters = list(inspect.signature(Pipeline.__call__).parameters.values())
    places = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert places == ["self", "prompt", "height", "width", "num_inference_steps"]
    assert {one.name for one in parameters} - {"self"} == set(facts_of(Example))


def test_arguments_are_as_given_else_the_default_of_the_checkpoint_else_of_the_call():
    made = Pipeline()("a", 32, guidance_scale=3.0)
    assert (made.prompt, made.height, made.num_inference_steps, made.guidance_scale) == ("a", 32, 4, 3.0)
    assert made.width is None and made.blur == 0.5, "a value that a call has of its own is not replaced"
    assert Pipeline()("a", height=None).height == 64


@pytest.mark.parametrize(
    ("positional", "named", "words"),
    [
        ((), {"promt": "a"}, r"Pipeline got an unexpected keyword argument 'promt'; did you mean 'prompt'\?"),
        (("a",), {"prompt": "b"}, "Pipeline got prompt twice"),
        (
            ("a", 8, 8, 2, 0.1),
            {},
            r"takes 4 arguments by position \(prompt, height, width, num_inference_steps\), got 5",
        ),
    ],
)
def test_what_a_call_does_not_take_is_named(positional, named, words):
    with pytest.raises(TypeError, match=words):
        Pipeline()(*positional, **named)


def test_an_unknown_name_is_a_sentence():
    with pytest.raises(ValueError, match=r"An argument of Example must be one of .* Did you mean 'blur'\?"):
        arguments_named(Example, {"blurr": 1}, "Example")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"blur": 1.5}, "blur must be between 0 and 1"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1"),
        ({"output_type": "pill"}, "Did you mean 'pil'"),
    ],
)
def test_ranges_are_those_of_the_fields(given, words):
    check_ranges(Example())
    with pytest.raises(ValueError, match=words):
        check_ranges(Example(**given))


def test_what_needs_guidance_is_told_without_it():
    given = {"negative_prompt": "dull", "guidance_rescale": 0.5}
    assert list(without_effect(Example(**given, guidance_scale=1.0))) == ["negative_prompt", "guidance_rescale"]
    assert not list(without_effect(Example(**given, guidance_scale=2.0)))
    assert not list(without_effect(Example(guidance_scale=1.0)))


def test_guidance_in_turn_can_be_chosen_where_the_call_leaves_it_open():
    assert Guided(guidance_scale=3.0).in_turn().sequential_guidance is True
    assert Guided(guidance_scale=1.0).in_turn() is None
    assert Guided(guidance_scale=3.0, sequential_guidance=False).in_turn() is None
    assert Arguments().in_turn() is None and not Arguments().is_guided


def test_help_shows_every_argument_with_its_sentence_its_range_and_its_default():
    text = documentation_of("Make something.", Example, {"height": 64})
    for name, fact in facts_of(Example).items():
        words = " ".join(text.split())
        assert f" {name}: {fact.sentence.rstrip('.')}" in words
    assert "how much to blur; from 0 to 1." in text
    assert "64 if left out." in text
    assert max(map(len, text.splitlines())) <= 100


def test_arguments_hold_tensors_and_are_frozen():
    made = Example(latents=torch.zeros(2))
    assert made != Example(latents=torch.zeros(2)), "compared as objects, not element by element"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.blur = 1
