"""Everything works on a torch that was built without oneDNN, as the wheels for macOS are."""

import subprocess
import sys

import pytest

WITHOUT_ONEDNN = """
import torch


class Empty:
    def __getattr__(self, name):
        raise AttributeError(f"'_OpNamespace' 'mkldnn' object has no attribute {name!r}")


def refuse(*_):
    raise RuntimeError("mkldnn_convolution_forward: ATen not compiled with MKLDNN support")


torch.ops.mkldnn, torch.mkldnn_convolution = Empty(), refuse
torch.backends.mkldnn.is_available, torch._C._has_mkldnn = lambda: False, False
"""

EVERY_CLASS = """
import filmstrip
from filmstrip.registry import PUBLIC
for name in PUBLIC:
    getattr(filmstrip, name)
"""

OPERATIONS = """
import torch.nn.functional as F
from filmstrip.kernels.attention import attention
from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.linear import product

with torch.no_grad():
    query = torch.randn(1, 2, 300, 16)
    torch.testing.assert_close(attention(query, query, query), F.scaled_dot_product_attention(query, query, query))
    rows, weight, bias = torch.randn(512, 128), torch.randn(128, 128), torch.randn(128)
    torch.testing.assert_close(product(rows, weight, bias), F.linear(rows, weight, bias))
    pictures, kernel = torch.randn(1, 32, 40, 40), torch.randn(8, 32, 3, 3)
    torch.testing.assert_close(convolve(pictures, kernel, None, (1, 1)), F.conv2d(pictures, kernel, padding=1))
    video, kernel = torch.randn(1, 4, 5, 9, 9), torch.randn(8, 4, 3, 3, 3)
    torch.testing.assert_close(convolve(video, kernel, None, (1, 1, 1)), F.conv3d(video, kernel, padding=1))
"""

PLAN = """
from filmstrip.fitting.ledger import Ledger, without_values
from filmstrip.kernels.valueless import standing_for

conv = without_values(torch.nn.Conv2d(4, 8, 3))
with torch.no_grad(), standing_for("cpu"), Ledger({"conv": conv}, on_cpu=True) as ledger:
    conv(torch.empty(1, 4, 16, 16, device="meta"))
assert ledger.peak > 0
"""


@pytest.mark.parametrize("script", [EVERY_CLASS, OPERATIONS, PLAN], ids=["imports", "operations", "plans"])
def test_a_torch_without_onednn_will_do(script):
    done = subprocess.run([sys.executable, "-c", WITHOUT_ONEDNN + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
