"""The folder of a tiny checkpoint, and jobs for it."""

import pytest

from filmstrip.jobs import Job
from tests.cli.conftest import checkpoint, outline  # noqa: F401  (fixtures)


@pytest.fixture
def asked(checkpoint, tmp_path, monkeypatch):  # noqa: F811
    """A job for the tiny checkpoint, changed as the test says; it is carried out in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def ask(*, arguments=None, **changes):
        usual = {"prompt": "a cat", "height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2}
        usual |= arguments or {}
        return Job(**{"model": str(checkpoint), "seed": 5, "device": "cpu", "arguments": usual, **changes})

    return ask
