"""Running the cases of the contract suite on the accelerator of this machine."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from filmstrip import devices
from tests.contract.registered import CASES, Case
from tests.contract.runs import fresh, relative_error, shared, video
from tests.contract.test_precision import drawn

DEVICE = devices.best_device()
HALF_TYPES = (torch.bfloat16, torch.float16)
DRAWS_ALIKE = torch.equal(drawn(torch.bfloat16), drawn(torch.float32))
FLOAT32_ERROR = 1e-3
"""Bound of the error of a float32 video: kernels sum in other orders, and steps carry that on."""
# One of each family: where only the kinds of networks matter, and each takes long.
FAMILIES = list({case.pipeline_class.__module__.split(".")[2]: case for case in reversed(CASES)}.values())
ONE_OF_EACH = list({case.pipeline_class.component_names(): case for case in CASES}.values())
"""A case for each set of components."""

needs_real = pytest.mark.skipif("tests.gpu.imitation" in sys.modules, reason="needs a real accelerator")
needs_streams = pytest.mark.skipif(not devices.has_streams(DEVICE), reason=f"{DEVICE} has no streams")


def check_noise(case: Case) -> None:
    """Skip a comparison of types where this torch draws other noise in half types than in float32 from a seed."""
    vae = shared(case.name).vae
    encodes = hasattr(vae, "temporal_compression_ratio") and (case.takes("image") or case.takes("video"))
    if (encodes or vae.config.get("timestep_conditioning")) and not DRAWS_ALIKE:
        pytest.skip("this torch draws other noise in half types")


def there(case: Case, dtype: torch.dtype = torch.float32) -> Any:
    """A case's pipeline, all of it on the accelerator."""
    return fresh(case).to(dtype).to(DEVICE)


@cache
def on_cpu(case_name: str) -> Tensor:
    """The video of a case in float32, from the CPU."""
    return video(_case(case_name))


@cache
def on_device(case_name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """The video of a case whose networks are on the accelerator as a whole."""
    case = _case(case_name)
    made = video(case, there(case, dtype))
    assert made.device.type == DEVICE.type
    return made.cpu()


def error(made: Tensor, case: Case) -> float:
    """Of a video, relative to the CPU's in float32."""
    assert bool(made.isfinite().all())
    return relative_error(made.cpu(), on_cpu(case.name))


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)
