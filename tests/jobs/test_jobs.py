"""Jobs as a server carries them out: plain data in, events and files out, and nothing printed."""

import json
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import filmstrip.generation
from filmstrip import read_metadata
from filmstrip.jobs import (
    Advanced,
    Begun,
    Job,
    Kept,
    MadeVideo,
    Noted,
    Source,
    finish_video,
    job_of,
    load,
    make,
    read_kept,
    resolve_job,
    videos,
)
from filmstrip.media import read_video
from tests import tiny

STAGES = ["load", "encode", "denoise", "decode", "write"]


class Stopped(Exception):
    """What a server raises in `tell` to cancel a job."""


def made(job, name="out.mkv", **options):
    events = []
    make(resolve_job(job), [Path(name)], events.append, **options)
    return events


@pytest.mark.parametrize(
    ("prompt", "is_known"),
    [("a cat on a mat", False), ("A RED thing", True), ("starry night", False), ("Rotating.", True), ("一只猫", False)],
)
def test_a_prompt_that_the_model_has_no_word_of_is_told(prompt, is_known):
    notes = resolve_job(Job("shapes", 1, arguments={"prompt": prompt}, device="cpu")).notes
    told = [note for note in notes if "none of the words that shapes understands" in note]
    assert len(told) == (not is_known)
    assert all("shape: circle, square" in note for note in told)


def test_a_prompt_for_another_model_is_not_looked_at(asked):
    assert resolve_job(asked()).notes == ()


def test_a_job_is_told_from_its_loading_to_its_file_and_prints_nothing(asked, capsys):
    events = made(asked(arguments={"num_frames": 10}))
    advanced = [event for event in events if isinstance(event, Advanced)]
    assert list(dict.fromkeys(event.stage for event in advanced)) == STAGES
    for stage in STAGES:
        steps = [(event.step, event.total, event.seconds) for event in advanced if event.stage == stage]
        assert steps == sorted(steps) and steps[-1][0] == steps[-1][1]
    kinds = Counter(type(event) for event in events)
    assert Begun(1, 1, Path("out.mkv")) in events
    assert (kinds[Begun], kinds[MadeVideo], kinds[Kept]) == (1, 1, 0)
    assert ["the last 3 cut off" in event.sentence for event in events if isinstance(event, Noted)] == [True]
    video = events[-1]
    assert isinstance(video, MadeVideo)
    assert (video.path, video.seed, video.num_frames, video.width, video.height) == (Path("out.mkv"), 5, 10, 64, 64)
    assert set(video.stages) == {*STAGES} - {"write"}
    assert read_video("out.mkv")[0].shape == (10, 64, 64, 3)
    assert read_metadata("out.mkv") == video.record
    assert capsys.readouterr() == ("", "")


def test_a_job_is_plain_data(asked, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "first.png")
    job = asked(inputs={"image": Source("first.png")})
    content = json.loads(json.dumps(asdict(job)))
    content["inputs"] = {name: Source(**entry) for name, entry in content["inputs"].items()}
    content["assignments"] = tuple(content["assignments"])
    content["then"] = tuple(content["then"])
    assert Job(**content) == job
    assert resolve_job(Job(**content)).call.name == "LTXImageToVideoPipeline"


def test_resolving_says_what_would_be_made_without_weights(asked, outline):
    resolved = resolve_job(asked(model=str(outline), arguments={"num_frames": 10}, fps=12))
    size = resolved.request.size
    assert (size.num_frames, size.generated_frames, size.width, resolved.fps) == (10, 13, 64, 12)
    assert (resolved.settings["guidance_scale"], resolved.settings["frame_rate"]) == (3.0, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arguments": {"width": 65}}, "width must be a multiple of 8"),
        ({"arguments": {"num_frames": "nine"}}, "num_frames takes a whole number, got 'nine'"),
        ({"arguments": {"num_frame": 9}}, "num_frame has no effect: LTXPipeline takes no num_frame"),
        ({"arguments": {"num_inference_steps": 2.5}, "said": {"num_inference_steps": "--steps"}}, "--steps takes"),
        ({"arguments": {"prompt": None}}, "PROMPT|prompt"),
        ({"seed": -1}, "--seed must be a whole number"),
        ({"num_videos": 0}, "--num-videos must be a whole number of at least 1"),
        ({"device": "abacus"}, "unknown device"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"model": "./nowhere"}, "there is no folder './nowhere'"),
        ({"inputs": {"image": Source("none.png")}}, "none.png"),
        ({"seconds": 1.0}, "--num-frames and --seconds say the same thing"),
        ({"quantize": "int3"}, "weights are quantised as"),
        ({"memory": "lots"}, "'5GB'"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused_in_a_sentence(asked, changes, said):
    with pytest.raises(ValueError, match=said):
        resolve_job(asked(**changes))


def test_pixels_that_are_promised_must_be_there(asked, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "first.png")
    job = asked(inputs={"image": Source("first.png")})
    pinned = replace(job, inputs={"image": Source("first.png", pixels_sha256=pixels(job))})
    assert pixels(pinned) == pixels(job)
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "first.png")
    with pytest.raises(ValueError, match="has changed since it was given"):
        resolve_job(pinned)


def pixels(job):
    return resolve_job(job).inputs["image"].pixels_sha256


def test_a_target_that_can_not_be_written_is_refused_before_loading(asked):
    events = []
    with pytest.raises(ValueError, match=r"can't be written as '\.avi'"):
        make(resolve_job(asked()), [Path("a.avi")], events.append)
    assert events == []


def test_a_video_makes_its_own_job_again(asked):
    made(asked(fps=12.0))
    made(job_of(read_metadata("out.mkv"), Path("out.mkv")), "again.mkv")
    assert np.array_equal(read_video("again.mkv")[0], read_video("out.mkv")[0])
    assert read_metadata("again.mkv") == read_metadata("out.mkv")


def test_a_loaded_pipeline_serves_jobs_of_its_model(asked, monkeypatch):
    first, second = asked(), asked(seed=6)
    made(second, "alone.mkv")
    pipeline = load(resolve_job(first))
    monkeypatch.setattr(videos, "load_pipeline", lambda *_: pytest.fail("weights are loaded again"))
    made(first, "first.mkv", pipeline=pipeline)
    made(second, "second.mkv", pipeline=pipeline)
    assert np.array_equal(read_video("second.mkv")[0], read_video("alone.mkv")[0])
    assert not np.array_equal(read_video("second.mkv")[0], read_video("first.mkv")[0])


@pytest.mark.parametrize(
    ("stage", "is_kept"), [("load", 0), ("encode", 0), ("denoise", 1), ("decode", 1), ("write", 1)]
)
def test_a_job_that_is_cancelled_leaves_no_video_and_is_finished_from_what_is_kept(asked, tmp_path, stage, is_kept):
    made(asked(), "whole.mkv")
    whole = {path.name for path in tmp_path.iterdir()}
    events = []

    def tell(event):
        events.append(event)
        if isinstance(event, Advanced) and event.stage == stage and (stage != "denoise" or event.step == 2):
            raise Stopped

    with pytest.raises(Stopped):
        make(resolve_job(asked()), [Path("out.mkv")], tell, every=1)
    kept = [event.path for event in events if isinstance(event, Kept)]
    assert len(kept) == is_kept
    assert {path.name for path in tmp_path.iterdir()} - whole == {path.name for path in kept}
    for path in kept:
        found = read_kept(path)
        assert found.target == tmp_path / "out.mkv"
        video = finish_video(found, found.target, events.append)
        assert (video, video.seed) == (events[-1], 5)
        assert np.array_equal(read_video("out.mkv")[0], read_video("whole.mkv")[0])
        assert not path.exists()


@pytest.fixture
def talkative(monkeypatch):
    """A run that has something to tell at its second event."""
    run = filmstrip.generation.run

    def tell_more(*args, **options):
        for number, event in enumerate(run(*args, **options)):
            event.notes = ("The prompt is a palindrome.", "So is the video.") if number == 1 else ()
            yield event

    monkeypatch.setattr(filmstrip.generation, "run", tell_more)


def test_what_a_run_has_to_tell_is_told(asked, talkative):
    events = made(asked())
    assert [event.sentence for event in events if isinstance(event, Noted)] == [
        "The prompt is a palindrome.",
        "So is the video.",
    ]
    stages = [event.stage for first, event in pairwise(events) if isinstance(first, Noted) and hasattr(event, "stage")]
    assert stages == ["encode"], "before the event that they came with"


def test_a_text_checkpoint_given_a_picture_names_the_one_for_pictures(tmp_path):
    parts = {
        "transformer": filmstrip.CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER),
        "vae": filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        "scheduler": filmstrip.CogVideoXDDIMScheduler(),
    }
    encoder = {"text_encoder": tiny.text_encoder(), "tokenizer": tiny.tokenizer()}
    filmstrip.CogVideoXPipeline(**parts, **encoder).save_pretrained(tmp_path / "text")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "first.png")
    picture = Source(str(tmp_path / "first.png"))
    asked = Job(str(tmp_path / "text"), seed=1, arguments={"prompt": "a"}, inputs={"image": picture})
    with pytest.raises(ValueError, match=r"made for another task: .* One for image-to-video is \S*CogVideoX\S*I2V"):
        resolve_job(asked)
