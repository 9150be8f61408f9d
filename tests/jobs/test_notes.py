"""Warnings of the library as notes of the job that they are about."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from filmstrip.generation.events import TOLD
from filmstrip.jobs import Noted, make, resolve_job, videos
from filmstrip.jobs.notes import library_notes


@pytest.mark.parametrize("area", ["models.anything", "generation.pipeline", "generation.running", "checkpoints.dtypes"])
def test_a_warning_is_dropped_for_its_mark_and_not_for_where_it_comes_from(area):
    logger, told = logging.getLogger(f"filmstrip.{area}"), []
    with library_notes(told.append):
        for _ in range(2):
            logger.warning("%s is left out.", "A part")
            logger.warning("A length is adjusted.", extra=TOLD)
            logger.info("loaded")
    logger.warning("Afterwards.")
    assert told == ["A part is left out."]


def test_a_job_is_told_of_warnings_in_its_own_thread_only():
    both = Barrier(2)

    def warned(name):
        told = []
        with library_notes(told.append):
            both.wait()
            logging.getLogger("filmstrip.models").warning("%s is mended.", name)
            both.wait()
        return told

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(warned, ["one", "other"])) == [["one is mended."], ["other is mended."]]


def test_what_the_library_warns_of_while_it_loads_is_an_event(asked, tmp_path, monkeypatch):
    load = videos.load_pipeline

    def warn_and_load(*args):
        logging.getLogger("filmstrip.generation.pipeline").warning("safety_checker left out.")
        return load(*args)

    monkeypatch.setattr(videos, "load_pipeline", warn_and_load)
    events = []
    make(resolve_job(asked()), [tmp_path / "out.mkv"], events.append)
    assert [event for event in events if isinstance(event, Noted)] == [Noted("safety_checker left out.")]
