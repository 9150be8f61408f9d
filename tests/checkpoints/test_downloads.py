"""Downloads tell how far they are, from the bars that the hub's client would draw."""

import threading

import pytest
from tqdm import tqdm

from filmstrip.checkpoints.downloads import Download, downloaded, told_downloads


def fetched(tqdm_class=tqdm):
    """As the client of version 2 fetches: a bar for what arrives, one for what is written, one for the files."""
    arrived = tqdm_class(desc="Downloading bytes", total=0, initial=0, unit="B", unit_scale=True, bar_format="")
    written = tqdm_class(desc="Reconstructing", total=0, initial=0, unit="B", unit_scale=True, bar_format="")
    files = tqdm_class(total=2, desc="Fetching 2 files")
    for _ in range(2):
        arrived.total, written.total = arrived.total + 50, written.total + 50
        written.update(20)
        arrived.total = 125  # guessed anew
        arrived.update(70)
        files.update()
    written.set_postfix_str(f"{written.format_dict.get('rate')}", refresh=False)
    arrived.set_description_str("Download complete")
    return "folder"


def test_bytes_are_told_and_files_are_not(capfd):
    told = []
    with told_downloads(told.append):
        assert downloaded("vae", fetched) == "folder"
    assert {(one.what, one.total_bytes) for one in told} <= {("vae", 50), ("vae", 100)}
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)
    assert told[-1].done_bytes == told[-1].total_bytes == 100
    assert capfd.readouterr() == ("", "")


def test_when_nobody_listens_the_client_is_left_alone():
    assert downloaded("vae", lambda **given: given) == {}


def test_an_error_of_the_client_comes_back_as_it_is():
    def fail(tqdm_class):
        raise ValueError("gated")

    with told_downloads(lambda _: None), pytest.raises(ValueError, match="gated"):
        downloaded("vae", fail)


def test_what_the_listener_raises_ends_the_download():
    class Stopped(Exception):
        pass

    def stop(_: Download) -> None:
        raise Stopped

    with told_downloads(stop), pytest.raises(Stopped):
        downloaded("vae", fetched)


def test_bars_share_no_lock_with_those_that_others_draw():
    def fetch(tqdm_class):
        with tqdm.get_lock():
            done = threading.Thread(target=lambda: tqdm_class(total=1, unit="B").update(1), daemon=True)
            done.start()
            done.join(5)
            return not done.is_alive()

    with told_downloads(lambda _: None):
        assert downloaded("vae", fetch)
