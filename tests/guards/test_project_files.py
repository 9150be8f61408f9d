"""What the project says about itself is the same everywhere: forms, citation, CI, versions."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.guards.source import ROOT, expect_none

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
YAML_FILES = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
FORM_PARTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}  # that the forge knows
SYSTEMS = {"ubuntu", "macos", "windows"}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def wrong_form(form):
    """What is wrong with an issue form, as the forge would see it."""
    for key in ("name", "description", "body"):
        if not form.get(key):
            yield f"no {key}"
    identifiers = [part.get("id") for part in form.get("body", []) if part["type"] != "markdown"]
    if len(set(identifiers)) != len(identifiers) or None in identifiers:
        yield f"each part needs an id of its own, got {identifiers}"
    for part in form.get("body", []):
        if part["type"] not in FORM_PARTS:
            yield f"no part is called {part['type']}"
        elif part["type"] == "markdown":
            if not part["attributes"].get("value"):
                yield "empty text"
        elif not part["attributes"].get("label"):
            yield f"{part['id']} has no label"
        if part["type"] == "dropdown" and not all(isinstance(one, str) for one in part["attributes"]["options"]):
            yield f"{part['id']} has options that are no texts"


def pythons():
    """The versions in the classifiers."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_a_yaml_file_can_be_read(path):
    assert read(path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_form_is_one_that_the_forge_shows(path):
    if path.stem != "config":
        expect_none(wrong_form(read(path)))


def test_a_wrong_form_is_found():
    part = {"type": "textarea", "id": "a", "attributes": {"label": "A"}}
    good = {"name": "a", "description": "b", "body": [part]}
    assert not list(wrong_form(good))
    choice = {"type": "dropdown", "id": "b", "attributes": {"label": "B", "options": [True]}}  # a yes without quotes
    for bad in ({**good, "name": ""}, {**good, "body": [part, part]}, {**good, "body": [choice]}):
        assert len(list(wrong_form(bad))) == 1


def test_ci_runs_every_python_and_system_that_is_claimed():
    jobs = read(WORKFLOW)["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    assert {name.removesuffix("-latest") for name in matrix["os"]} == SYSTEMS
    [minimum] = re.findall(r'^requires-python = ">=(3\.\d+)"$', PYPROJECT, re.MULTILINE)
    ends = [jobs[name]["steps"][1]["with"]["python-version"] for name in ("oldest", "newest")]
    assert ends == [minimum, pythons()[-1]] == [pythons()[0], pythons()[-1]]


def test_ci_runs_the_commands_of_make():
    steps = {step.get("name", step.get("run")): step for step in read(WORKFLOW)["jobs"]["test"]["steps"]}
    assert "make test" in steps
    written_out = steps["the commands of make test"]["run"]
    for command in (
        "install \"$(grep '^torch==' constraints.txt)\"",
        '--constraint constraints.txt --editable ".[test]"',
    ):
        assert command in written_out
        assert command in MAKEFILE.replace("$$", "$")
    assert re.findall(r"\bmake (\w+)", WORKFLOW.read_text(encoding="utf-8")).count("lint") == 1


def test_the_citation_is_of_this_version():
    citation = read(ROOT / "CITATION.cff")
    [version] = re.findall(r'^version = "(.*)"$', PYPROJECT, re.MULTILINE)
    [licence] = re.findall(r'^license = "(.*)"$', PYPROJECT, re.MULTILINE)
    assert (citation["version"], citation["license"]) == (version, licence)
    assert {"cff-version", "message", "title", "authors", "type"} <= citation.keys()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)} ", changelog, re.MULTILINE)


def test_hooks_run_what_make_lint_runs():
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]
    [local] = [one for one in repositories if one["repo"] == "local"]
    entries = [hook["entry"].removeprefix(".venv/bin/").split(" --")[0] for hook in local["hooks"]]
    assert all(hook["language"] == "system" for hook in local["hooks"])  # nothing to download
    assert entries[:3] == ["ruff format", "ruff check", "mypy"]
    assert (
        re.findall(r"^\t@\$\(BIN\)/(ruff format|ruff check|mypy)", MAKEFILE.split("\nlint:")[1], re.MULTILINE)[:3]
        == entries[:3]
    )


def test_the_oldest_versions_are_the_lower_ends_of_all_ranges():
    printed = subprocess.run(
        [sys.executable, ROOT / ".ci" / "oldest"], capture_output=True, text=True, check=True
    ).stdout
    dependencies = PYPROJECT.split("\ndependencies = [\n")[1].split("\n]\n")[0]
    wanted = [line.strip(' ",') for line in dependencies.splitlines() if not line.strip().startswith("#")]
    assert printed.split() == [requirement.replace(">=", "==") for requirement in wanted]
