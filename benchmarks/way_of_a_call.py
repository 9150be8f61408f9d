"""How far a call travels before its network is entered: files of ours that it enters, and Python calls that it makes.

    python benchmarks/way_of_a_call.py

One call of text to video with the built-in model, loaded before, with nothing kept; counted up to the first entry into
the transformer's `forward`. Only functions of this package are counted, comprehensions and generators' resumptions as
what they are: entries.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import filmstrip

CALL = {"prompt": "a red star", "num_inference_steps": 2, "num_frames": 9, "output_type": "pt"}
TARGETS = {"files": 30, "calls": 0.25}  # files at most, and the share of 68e8c0d's calls at most
BEFORE = {"files": 30, "calls": 2672}  # 68e8c0d, by this script


class Entered(Exception):
    """The transformer is entered."""


def counted(call: Any) -> tuple[Counter[str], Counter[str]]:
    """Files and functions that a call enters, with how often."""
    package = str(Path(filmstrip.__file__).parent)
    files: Counter[str] = Counter()
    functions: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(package):
            files[name[len(package) + 1 :]] += 1
            functions[f"{name[len(package) + 1 :]}:{frame.f_code.co_name}"] += 1

    sys.setprofile(note)
    try:
        call()
    except Entered:
        pass
    finally:
        sys.setprofile(None)
    return files, functions


def main() -> None:
    pipe = filmstrip.LTXPipeline.from_pretrained("shapes")
    pipe.set_progress_bar_config(disable=True)
    if "--cold" not in sys.argv:
        pipe(**CALL, generator=torch.Generator().manual_seed(0))  # what is made once is made

    def enter(*_: Any, **__: Any) -> None:
        sys.setprofile(None)  # what follows is the way back
        raise Entered

    pipe.transformer.forward = enter
    generator = torch.Generator().manual_seed(0)
    files, functions = counted(lambda: pipe(**CALL, generator=generator))
    calls = files.total()
    print(f"{'':10}{'now':>8}{'before':>8}{'target':>8}")
    print(f"{'files':10}{len(files):8}{BEFORE['files']:8}{TARGETS['files']:8}")
    print(f"{'calls':10}{calls:8}{BEFORE['calls']:8}{int(TARGETS['calls'] * BEFORE['calls']):8}")
    if "-v" in sys.argv:
        for name, count in functions.most_common(40):
            print(f"{count:6} {name}")
        print("\n".join(sorted(files)))


if __name__ == "__main__":
    main()
