"""What is shown while a run works: on a terminal, on a dumb one, and in a log."""

import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from filmstrip.cli import progress
from filmstrip.cli.progress import Lines, Notes, make_progress
from filmstrip.jobs import Advanced, Begun, Fetched
from tests.cli.tiny_checkpoint import SMALL

fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals are of Unix")
pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")

# The command with a hub that is the folder HUB: it fetches in threads, and its own bars are those of the real client.
FAKED = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from filmstrip.cli import main, videos

def fetch(name, *, tqdm_class=None, allow_patterns=None, local_files_only=False, **_):
    from huggingface_hub.utils import tqdm as own_bar
    weights = [one for one in allow_patterns or () if one.endswith(".safetensors")]
    with (tqdm_class or own_bar)(total=0, initial=0, unit="B", unit_scale=True, desc="Reconstructing") as bar:
        bar.total = 1_500_000 * len(weights)
        def work(_):
            for _ in range(15):
                time.sleep(float(os.environ.get("SLOWLY", "0.02")))
                bar.update(100_000)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, weights))
    return os.environ["HUB"]

def faked(options):
    import huggingface_hub  # not before the command has begun
    huggingface_hub.snapshot_download = fetch
    huggingface_hub.HfApi.list_repo_files = lambda self, name, **_: listing
    make_by_words(options)

listing = [os.path.relpath(os.path.join(folder, name), os.environ["HUB"])
           for folder, _, names in os.walk(os.environ["HUB"]) for name in names]
make_by_words, videos.make_by_words = videos.make_by_words, faked
sys.exit(main(sys.argv[1:]))
"""


class Terminal:
    """The command on a pseudo-terminal of 24 rows that nothing else draws on."""

    def __init__(self, folder, checkpoint, *words, **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        unset = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "HF_HUB_OFFLINE", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.running = subprocess.Popen(
            [sys.executable, "-c", FAKED, *map(str, words)],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**kept, "TERM": "xterm", "HUB": str(checkpoint), **environment},
        )
        os.close(theirs)
        self._ours, self.said = ours, ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                got = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                return
            if not got:
                return
            self.said += got.decode(errors="replace")

    def wait(self):
        try:
            status = self.running.wait(timeout=120)
        finally:
            self.running.kill()
        self._reader.join(timeout=5)
        self.said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said)
        return status


@pytest.fixture
def terminal(tmp_path, checkpoint):
    def run(*words, **environment):
        return Terminal(tmp_path, checkpoint, "generate", "a cat", *SMALL, *words, **environment)

    return run


def test_downloads_are_shown_by_component_with_bytes_and_rate_and_nothing_of_the_hub_is(terminal, tmp_path):
    shown = terminal("-m", "org/name", "-o", "a.mkv")
    assert shown.wait() == 0, shown.said
    for component in ("text_encoder", "transformer", "vae"):
        assert re.search(rf"fetch {component} .* of 1\.5 MB, [0-9.]+ [kM]B/s", shown.said), shown.said
    assert "elapsed" in shown.said and "left" in shown.said
    assert "Reconstructing" not in shown.said
    assert (tmp_path / "a.mkv").is_file()


def test_quiet_is_quiet_while_something_is_fetched(terminal):
    shown = terminal("-m", "org/name", "-o", "a.mkv", "--quiet")
    assert shown.wait() == 0 and shown.said.strip() == "a.mkv"


def test_the_bars_of_the_hub_stay_off_whatever_the_environment_says(terminal):
    shown = terminal("-m", "org/name", "-o", "a.mkv", HF_HUB_DISABLE_PROGRESS_BARS="0")
    assert shown.wait() == 0 and "Reconstructing" not in shown.said


def test_a_dumb_terminal_gets_lines(terminal, checkpoint):
    shown = terminal("-m", checkpoint, "-o", "a.mkv", TERM="dumb")
    assert shown.wait() == 0
    assert re.search(r"^denoise 2/2: ", shown.said, re.MULTILINE), shown.said
    assert "━" not in shown.said


def test_ctrl_c_ends_a_download(terminal):
    shown = terminal("-m", "org/name", "-o", "a.mkv", SLOWLY="2")
    until = time.monotonic() + 60
    while "fetch" not in shown.said and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(shown.running.pid, signal.SIGINT)
    asked_at = time.monotonic()
    assert shown.wait() == 130
    assert time.monotonic() - asked_at < 15, "the file itself would have taken twice that"
    assert "Interrupted" in shown.said


@pytest.fixture
def screen(monkeypatch):
    """A terminal in memory."""
    console = Console(force_terminal=True, width=100, height=24, color_system=None)
    monkeypatch.setattr(progress, "STDERR", console)
    return make_progress(Notes(is_quiet=False), is_quiet=False)


def rows(bars):
    with bars._console.capture() as captured:
        bars._console.print(bars._display.get_renderable())
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def video(bars, number, total):
    bars.show(Begun(number, total, Path("a.mkv")))
    for stage in ("encode", "denoise", "decode"):
        for step in range(1, 4):
            bars.show(Advanced(stage, step, 3, 1.0))


def test_no_row_goes_on_for_a_stage_that_is_done_or_left_out(screen):
    screen.show(Advanced("load", 0, 1, 0.0))
    screen.show(Advanced("load", 1, 1, 1.0))
    screen.show(Begun(1, 1, Path("a.mkv")))
    assert [row.split()[0] for row in rows(screen)] == ["encode"]
    screen.show(Advanced("decode", 1, 9, 1.0))  # of a run that was kept, which encodes nothing any more
    assert [row.split()[0] for row in rows(screen)] == ["decode"]


def test_with_many_videos_only_the_rows_of_the_current_one_are_there(screen):
    for number in range(1, 41):
        video(screen, number, 40)
        shown = rows(screen)
        assert len(shown) <= 4
        assert all(row.startswith(f"video {number} of 40: ") for row in shown)
    finished = [row for row in rows(screen) if "3/3" in row]
    assert len(finished) == 3 and all("elapsed" in row for row in finished)


def test_a_stage_that_says_nothing_for_long_gets_a_line(monkeypatch, capsys):
    monkeypatch.setattr(progress, "STDERR", Console(stderr=True, highlight=False, soft_wrap=True))
    monkeypatch.setattr(progress, "_LONGEST_SILENCE", 0.2)
    with Lines(Notes(is_quiet=False)) as lines:
        lines.show(Advanced("load", 0, 1, 0.0))
        time.sleep(0.5)
        lines.show(Advanced("load", 1, 1, 0.5))
        lines.show(Begun(1, 1, Path("a.mkv")))
        lines.show(Advanced("encode", 1, 1, 0.5))
        for step in (1, 2, 3):
            lines.show(Advanced("denoise", step, 50, 0.1 * step))
        time.sleep(0.5)
    said = capsys.readouterr().err
    assert re.search(r"^still loading, 0\.\d s$", said, re.MULTILINE)
    assert len(re.findall(r"^still denoising, 3/50, 0\.\d s$", said, re.MULTILINE)) == 2


def test_a_download_has_lines_too(monkeypatch, capsys):
    monkeypatch.setattr(progress, "STDERR", Console(stderr=True, highlight=False, soft_wrap=True))
    lines = Lines(Notes(is_quiet=False))
    for quarter in range(1, 401):
        lines.show(Fetched("vae", 10_000_000 * quarter, 4_000_000_000, 0.1 * quarter))
    assert capsys.readouterr().err.splitlines() == [
        "fetch vae: 10 MB of 4 GB, 100 MB/s, 39.9 s left, 0.1 s",
        "fetch vae: 1 GB of 4 GB, 100 MB/s, 30.0 s left, 10.0 s",
        "fetch vae: 2 GB of 4 GB, 100 MB/s, 20.0 s left, 20.0 s",
        "fetch vae: 3 GB of 4 GB, 100 MB/s, 10.0 s left, 30.0 s",
        "fetch vae: 4 GB of 4 GB, 100 MB/s, 40.0 s",
    ]
