"""What the library warns of, as notes of the command: each of them once, and not what the command tells anyway."""

import json

import pytest

import filmstrip as package
from tests.cli.tiny_checkpoint import SMALL
from tests.tiny_stable_diffusion import parts

LONG = "a" * 200
EARLY_RELEASE = "Note: The scheduler's settings are those of an early release; used instead: steps_offset=1."


@pytest.fixture(scope="module")
def early_release(tmp_path_factory):
    """A model of pictures as the first were published: with a safety checker, and settings that are not meant so."""
    folder = tmp_path_factory.mktemp("models") / "early"
    pipeline = package.StableDiffusionPipeline(**parts())
    pipeline.defaults["num_inference_steps"] = 4
    pipeline.save_pretrained(folder)
    changed(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    changed(folder / "scheduler" / "scheduler_config.json", steps_offset=0)
    return folder


def changed(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def notes_of(result):
    assert result.exit_code == 0, result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("Note: ")]


def test_a_part_that_is_left_out_and_settings_that_are_mended_are_told_once(filmstrip, early_release):
    words = ("generate", "a cat", "--model", early_release, "--num-frames", "2", "-o", "a.mkv")
    left_out = f"Note: {early_release}: safety_checker left out; nothing here uses such a part."
    assert sorted(notes_of(filmstrip(*words))) == sorted([EARLY_RELEASE, left_out])
    assert notes_of(filmstrip(*words, "-q")) == []


def test_mended_settings_are_told_where_a_model_is_inspected_or_a_video_is_finished(filmstrip, early_release, tmp_path):
    assert notes_of(filmstrip("inspect", early_release, "--json")) == [EARLY_RELEASE]
    pipeline = package.TextToVideoZeroPipeline.from_pretrained(early_release)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.keep_unfinished(tmp_path / "kept")
    pipeline.decode = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        pipeline("a cat", video_length=2)
    [kept] = (tmp_path / "kept").iterdir()
    assert notes_of(filmstrip("decode", kept, "-o", "a.mkv")) == [EARLY_RELEASE]


def test_the_end_of_a_negative_prompt_that_does_not_count_is_told(filmstrip, checkpoint):
    words = ("generate", "--model", checkpoint, *SMALL, "-o", "out.mp4", "--set", "max_sequence_length=64")
    [note] = notes_of(filmstrip(*words, "a cat", "--negative-prompt", LONG))
    assert note.startswith("Note: The negative prompt is longer than 64 tokens; this part of it is not used: 'a a ")


def test_what_stands_in_the_closing_table_is_no_note_of_the_library(filmstrip, checkpoint):
    result = filmstrip("generate", LONG, "--model", checkpoint, *SMALL, "-o", "out.mp4", "--num-frames", "10")
    [note] = notes_of(result)
    assert "the last 3 cut off" in note, "told by the command before it begins"
    assert "the last 3 cut off" in result.stdout and "this end of the prompt" in result.stdout


def test_what_a_run_has_to_tell_is_a_note(filmstrip, checkpoint, monkeypatch):
    run = package.generation.run

    def tell_more(*args, **options):
        for number, event in enumerate(run(*args, **options)):
            event.notes = ("The prompt is a palindrome.",) if number == 1 else ()
            yield event

    monkeypatch.setattr(package.generation, "run", tell_more)
    words = ("generate", "a", "--model", checkpoint, *SMALL, "-o", "out.mp4")
    assert notes_of(filmstrip(*words)) == ["Note: The prompt is a palindrome."]
    assert notes_of(filmstrip(*words, "-q")) == []
