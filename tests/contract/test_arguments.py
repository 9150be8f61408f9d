"""Every argument that is accepted has an effect; one that can't have any is an error that says so."""

import pytest

from tests.contract.registered import CASES
from tests.contract.runs import differs, request, video


def variations(is_error):
    for case in CASES:
        for argument in case.variations:
            for number, variation in enumerate(case.variations_of(argument)):
                if not variation.elsewhere and bool(variation.error) == is_error:
                    yield pytest.param(case, argument, variation, id=f"{case.name}: {argument} {number}")


@pytest.mark.parametrize(("case", "argument", "variation"), variations(is_error=False))
def test_another_value_changes_the_video(case, argument, variation):
    before = video(case, **variation.given)
    assert differs(video(case, **{**variation.given, argument: variation.value}), before)


@pytest.mark.parametrize(("case", "argument", "variation"), variations(is_error=True))
def test_a_value_that_makes_no_sense_is_refused_in_one_sentence_before_any_work(case, argument, variation):
    with pytest.raises(ValueError) as caught:
        request(case, **{**variation.given, argument: variation.value})
    sentence = str(caught.value)
    assert variation.error in sentence
    assert sentence.endswith(".") and "\n" not in sentence
