"""Devices are named as torch names them, and one that is not there is an error."""

import pytest
import torch

from filmstrip import devices


def test_names_and_devices_are_understood():
    assert devices.parse_device("cpu") == torch.device("cpu")
    assert devices.parse_device(torch.device("cpu")) == torch.device("cpu")
    assert devices.parse_device(None) == devices.parse_device("auto") == devices.best_device()


@pytest.mark.parametrize(("name", "sentence"), [("cpuu", "did you mean 'cpu'"), ("cpu:x", "unknown device 'cpu:x'")])
def test_an_unknown_device_is_an_error_with_a_suggestion(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        devices.parse_device(name)


def test_an_accelerator_that_is_not_there_is_an_error_that_names_what_is(monkeypatch):
    monkeypatch.setattr(devices, "_is_available", lambda kind: False)
    assert devices.best_device() == torch.device("cpu")
    assert not devices.has_accelerator()
    with pytest.raises(ValueError, match="'xpu' is not available here; use 'cpu'"):
        devices.parse_device("xpu")


@pytest.mark.parametrize("name", ["gpu", "GPU", "gpu:0"])
def test_gpu_is_the_accelerator_that_there_is(monkeypatch, name):
    monkeypatch.setattr(devices, "_is_available", lambda kind: kind == "xpu")
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    assert devices.parse_device(name) == torch.device(name.lower().replace("gpu", "xpu"))
    with pytest.raises(ValueError, match="there is no device 'gpu:1': this machine has 1 of that kind"):
        devices.parse_device("gpu:1")
    monkeypatch.setattr(devices, "_is_available", lambda kind: False)
    with pytest.raises(ValueError, match="this machine has no GPU that torch can use, and the device 'gpu' was asked"):
        devices.parse_device("gpu")


@pytest.mark.parametrize(
    ("device", "dtype", "supported"),
    [
        ("cpu", torch.float16, True),
        ("cpu", torch.int64, False),
        ("cpu", torch.float8_e4m3fn, False),
        ("mps", torch.float64, False),
        ("mps", torch.float16, True),
    ],
)
def test_types_that_a_device_lacks_are_known(device, dtype, supported):
    assert devices.supports_dtype(device, dtype) is supported


def test_the_peak_of_a_cpu_is_that_of_the_process():
    before = devices.peak_memory("cpu")
    block = torch.ones(20_000_000)
    assert devices.peak_memory("cpu") >= max(before, block.nbytes)
    devices.synchronize("cpu")
    devices.empty_cache("cpu")
    devices.reset_peak_memory("cpu")
