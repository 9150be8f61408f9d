"""A process that makes videos in children of its own and kills them, as the test of unfinished videos tells it.

python killing.py CHECKPOINT: reads nothing, writes one JSON object on stdout. It works in the present folder.
"""

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from filmstrip import cli
from filmstrip.media import VideoWriter, read_metadata, read_video, writer
from filmstrip.models.ltx import AutoencoderKLLTXVideo, LTXPipeline
from filmstrip.resume import file, journal

CHECKPOINT = sys.argv[1]
CALL = ("generate", "a cat", "--model", CHECKPOINT, "--device", "cpu", "--seed", "5", "--size", "64x64")
CALL += ("--num-frames", "25", "--steps", "5", "-q", "-o", "out.mkv")
EVERY = ("--checkpoint-every", "2")
KEPT = Path("out.latents.safetensors")
TARGET = Path("out.mkv")


def at_call(owner, name, number=1, after=False):
    """A fault: the signal strikes at a call of that function, before its work or after it."""

    def prepare(strike):
        function, calls = getattr(owner, name), []

        def struck(*args, **kwargs):
            calls.append(1)
            if len(calls) == number and not after:
                strike()
            result = function(*args, **kwargs)
            if len(calls) == number and after:
                strike()
            return result

        setattr(owner, name, struck)

    return prepare


def half_written(number):
    """A fault: the signal strikes while a kept file is written for the so many-th time."""

    def prepare(strike):
        save, calls = file.save_file, []

        def struck(tensors, path, metadata):
            save(tensors, path, metadata)
            calls.append(1)
            if len(calls) == number:
                os.truncate(path, path.stat().st_size // 2)
                strike()

        file.save_file = struck

    return prepare


FAULTS = {
    "encoding": at_call(LTXPipeline, "encode"),
    "the first step": at_call(journal.FileJournal, "step", 1),
    "the third step": at_call(journal.FileJournal, "step", 3),
    "the last step": at_call(journal.FileJournal, "step", 5),
    "keeping steps": half_written(2),
    "keeping latents": half_written(3),
    "between": at_call(journal.FileJournal, "finish", after=True),
    "decoding": at_call(AutoencoderKLLTXVideo, "decode_stream", after=True),
    "writing": at_call(VideoWriter, "write", 2),
    "renaming": at_call(writer, "settle"),
    "just renamed": at_call(VideoWriter, "close", after=True),
}


def in_child(work):
    """The status of a child that does this work and ends with the status that it returns."""
    gc.collect()  # a decoder that a child collects waits for threads that only its parent has
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a suite in the background ignores
        sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (the process ends first)
        os._exit(work())
    return child


def cleared():
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def content(path):
    return read_video(path)[0].tobytes(), json.dumps(read_metadata(path), sort_keys=True)


def outcome(status, whole):
    """What is left after a death, and whether the video can be finished from it."""
    names = sorted(path.name for path in Path().iterdir())
    found = {
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "is_kept": KEPT.exists(),
        "parts": sum(name.endswith(".part") for name in names),
        "target": TARGET.exists() and content(TARGET) == whole,
        "half": TARGET.exists() and content(TARGET) != whole,
        "finished": None,
    }
    if KEPT.exists():
        finished = cli.main(["decode", str(KEPT), "-q", "-o", "finished.mkv"])
        found["finished"] = finished == 0 and content(Path("finished.mkv")) == whole and not KEPT.exists()
    cleared()
    return found


def main():
    assert cli.main(list(CALL)) == 0
    whole = content(TARGET)
    cleared()
    found = {}
    for number in (signal.SIGKILL, signal.SIGINT):
        for name, fault in FAULTS.items():
            if number == signal.SIGINT and name in ("the first step", "the last step", "between", "just renamed"):
                continue

            def work(fault=fault, number=number):
                fault(lambda: os.kill(os.getpid(), number))
                return cli.main([*CALL, *EVERY])

            _, status = os.waitpid(in_child(work), 0)
            found[f"{number.name} at {name}"] = outcome(status, whole)
    for number in (signal.SIGTERM, signal.SIGHUP):

        def ended(number=number):
            signal.signal(number, signal.SIG_DFL)  # whoever runs this may ignore it, as nohup does
            FAULTS["decoding"](lambda: os.kill(os.getpid(), number))
            return cli.main([*CALL, *EVERY])

        _, status = os.waitpid(in_child(ended), 0)
        found[f"{number.name} at decoding"] = outcome(status, whole)
    begin = time.monotonic()
    os.waitpid(in_child(lambda: cli.main([*CALL, *EVERY])), 0)
    cleared()
    duration, moments = time.monotonic() - begin, random.Random(0)
    for number in range(5):
        child = in_child(lambda: cli.main([*CALL, *EVERY]))
        time.sleep(duration * moments.uniform(0.3, 1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        found[f"random moment {number}"] = outcome(status, whole)
    return found


if __name__ == "__main__":
    standard = os.dup(1)
    os.dup2(2, 1)  # what the command prints goes to stderr
    report = json.dumps(main())
    os.write(standard, report.encode())
