"""The type of weights: any name of it, and never two at once."""

import numpy as np
import pytest
import torch

from filmstrip.checkpoints import requested_dtype
from filmstrip.checkpoints.dtypes import resolve_dtype

CPU = torch.device("cpu")


class PortType:
    """A type of the MindSpore port, as its text shows it."""

    def __str__(self) -> str:
        return "BFloat16"


@pytest.mark.parametrize("value", [torch.bfloat16, "bfloat16", "bf16", "torch.bfloat16", PortType()])
@pytest.mark.parametrize("argument", ["torch_dtype", "dtype", "mindspore_dtype"])
def test_each_argument_takes_each_name(argument, value):
    assert requested_dtype(**{argument: value}) == torch.bfloat16


@pytest.mark.parametrize(
    ("value", "dtype"), [("fp16", torch.float16), (np.float16, torch.float16), ("fp32", torch.float32)]
)
def test_other_types_are_told_apart(value, dtype):
    assert requested_dtype(dtype=value) == dtype


@pytest.mark.parametrize("value", ["int8", "", 16, "float17"])
def test_what_is_no_type_of_weights_is_refused(value):
    with pytest.raises(ValueError, match="torch_dtype must be one of bfloat16, float16, float32, float64 or 'auto'"):
        requested_dtype(torch_dtype=value)


def test_two_types_at_once_are_an_error_and_one_twice_is_not():
    assert requested_dtype(torch_dtype="fp16", dtype=torch.float16) == torch.float16
    with pytest.raises(ValueError, match=r"torch_dtype=fp16 and dtype=torch\.bfloat16 disagree"):
        requested_dtype(torch_dtype="fp16", dtype=torch.bfloat16)


def test_auto_and_nothing_mean_the_type_of_most_bytes():
    assert requested_dtype(dtype="auto") is None and requested_dtype() is None
    stored = [(torch.float32, 10), (torch.bfloat16, 30), (torch.float32, 15), (torch.int64, 800)]
    assert resolve_dtype(None, stored, CPU) == torch.bfloat16


def test_a_type_that_the_device_lacks_is_an_error_that_names_others(monkeypatch):
    monkeypatch.setattr("filmstrip.checkpoints.dtypes.supports_dtype", lambda device, dtype: dtype != torch.bfloat16)
    with pytest.raises(ValueError, match="'cpu' has no bfloat16; load with dtype=float16 or float32"):
        resolve_dtype(torch.bfloat16, [], CPU)
