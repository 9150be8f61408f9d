"""No pipeline class and no argument escapes the suite."""

import re
from pathlib import Path

import filmstrip
from filmstrip import registry
from filmstrip.roles import role_of
from tests.contract.registered import CASES
from tests.contract.runs import over_all


def public_pipeline_classes():
    found = {}
    for name in registry.PUBLIC:
        item = getattr(filmstrip, name)
        if isinstance(item, type) and issubclass(item, filmstrip.Pipeline) and item is not filmstrip.Pipeline:
            found[name] = item
    return found


def test_every_public_pipeline_class_has_a_case():
    assert set(public_pipeline_classes()) == {case.pipeline for case in CASES}


def test_every_pipeline_that_a_family_names_has_a_case():
    assert set(registry.PIPELINES) <= {case.pipeline for case in CASES}


def test_every_component_is_there_for_something():
    for name, pipeline_class in public_pipeline_classes().items():
        for component in pipeline_class.component_names():
            assert role_of(component, pipeline_class.roles), f"{name} does not say what {component} is for"


def test_names_of_cases_are_distinct():
    assert len({case.name for case in CASES}) == len(CASES)


@over_all
def test_every_argument_has_a_variation(case):
    assert set(case.variations) == set(case.parameters)


@over_all
def test_the_small_call_leaves_the_choice_of_seed_and_output_to_the_tests(case):
    assert not {"generator", "output_type", "return_dict"} & set(case.call)


def test_what_is_shown_elsewhere_is_shown():
    tests = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        tests |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    said = {
        variation.elsewhere
        for case in CASES
        for argument in case.variations
        for variation in case.variations_of(argument)
    }
    assert said - {""} <= tests
