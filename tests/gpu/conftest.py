"""The GPU check stands apart from the rest of the suite: other versions of torch, and warnings that are not ours."""

import os

import pytest

# Read when the libraries of an NVIDIA GPU are loaded: float32 is to be float32, and not rounded to 10 bits before it is
# multiplied, which torch lets convolutions do.
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
# Several processes compile at once.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu"):
            # What torch says of an accelerator differs from release to release.
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once why a test failed: the check may be ended before it gets to its summary."""
    if report.failed and "gpu" in report.keywords:
        print(f"\n{report.nodeid} {report.longreprtext}", flush=True)


@pytest.fixture(autouse=True)
def _give_memory_back(request: pytest.FixtureRequest):
    """Several processes may share one accelerator: none keeps what it does not use."""
    yield
    if request.node.get_closest_marker("gpu"):
        from tests.gpu.accelerator import DEVICE, devices

        devices.empty_cache(DEVICE)
