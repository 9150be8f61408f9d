"""The suite itself is offline, on one thread and seeded."""

import os
import socket

import pytest
import torch


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_connection_to_another_machine_fails(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        wire = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        pytest.skip("this machine has no such addresses")
    with wire, pytest.raises(RuntimeError, match="the suite runs offline"):
        wire.connect((host, 9))


def test_looking_up_another_machine_fails():
    with pytest.raises(RuntimeError, match="the suite runs offline"):
        socket.getaddrinfo("example.org", 80)


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_torch_runs_on_one_thread():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_starts_from_the_same_seed(attempt):
    assert torch.initial_seed() == 0
    torch.manual_seed(attempt)
