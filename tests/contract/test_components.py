"""A component that is not there is missed in one sentence, before any work."""

import re

import pytest

from tests.contract.registered import CASES
from tests.contract.runs import call, fresh, over, over_all, shared

with_negatives = over(case for case in CASES if case.embeddings and case.takes("negative_prompt_embeds"))


def without(case, *names):
    """The case's pipeline with None in place of components."""
    whole = fresh(case)
    made = type(whole)(**{**whole.components, **dict.fromkeys(names)}, **whole.flags)
    made.set_progress_bar_config(disable=True)
    return made


def is_of_texts(name):
    return name.startswith(("text_encoder", "tokenizer"))


@over_all
def test_a_component_that_is_none_is_named(case):
    pipeline_class = case.pipeline_class
    for name in pipeline_class.component_names():
        if name in pipeline_class._optional_components:
            continue
        with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
            call(case, without(case, name))
        assert re.search(r"give it one|must be", str(raised.value)), raised.value


@with_negatives
def test_embeddings_without_negative_ones_miss_the_text_encoder_in_a_sentence(case):
    given = case.embeddings(shared(case.name), case.call)
    texts = [name for name in case.pipeline_class.component_names() if is_of_texts(name)]
    pipeline = without(case, *texts)
    assert call(case, pipeline, **given) is not None
    positive = {name: value for name, value in given.items() if not name.startswith("negative")}
    arguments = {name: value for name, value in case.call.items() if name != "negative_prompt"} | positive
    message = "negative_prompt_embeds|text_encoder_2"
    if any(name not in pipeline._optional_components for name in texts):
        with pytest.raises(ValueError, match=message):
            pipeline(**arguments)
    else:  # it guides away from zeros then
        pipeline(**arguments)
