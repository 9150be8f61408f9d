"""Every test runs on one thread, from the same seeds, without the network."""

import os
import sys
from ipaddress import ip_address

import pytest

try:
    from hypothesis import settings
except ImportError:  # the check of a GPU does without
    settings = None

# Set before anything imports torch or the hub's client, which read these once. One thread per process: the suite runs
# one worker per core, and sums in one order give the same numbers on every machine of a kind.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test asks for more threads, among other workers
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if settings is not None:
    settings.register_profile("filmstrip", deadline=None, derandomize=True, database=None)
    settings.load_profile("filmstrip")


def is_remote(host: object) -> bool:
    """Whether a connection to this host would leave the machine."""
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("localhost", "None", ""):
        return False
    try:
        return not ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return True


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook that fails whoever opens a connection to another machine, in any thread and any library."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if is_remote(host):
        raise RuntimeError(f"a test reached for the network ({event} {host!r}); the suite runs offline.")


sys.addaudithook(refuse_network)


@pytest.fixture(autouse=True)
def _same_seed_for_every_test() -> None:
    # Guards and other light tests never load torch: seed it only where it is in use.
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from filmstrip.devices import has_accelerator

    if not has_accelerator():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))
