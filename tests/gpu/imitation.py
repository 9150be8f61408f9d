"""A plugin of pytest, `-p tests.gpu.imitation`: the GPU check on a machine without one, so that it is itself checked.

The device is that of `tests/memory/other_device.py`; what needs a real accelerator is skipped.
"""

import pytest

from tests.memory.other_device import install

install(pytest.MonkeyPatch())
