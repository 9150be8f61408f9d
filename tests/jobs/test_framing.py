"""Pictures of other proportions than the video: what becomes of them, that it is said, and that it lasts."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filmstrip import export_to_video, read_metadata
from filmstrip.jobs import Source, job_of, make, resolve_job
from filmstrip.jobs.framing import framed_pictures, size_by_inputs
from filmstrip.jobs.inputs import Input, read_input
from filmstrip.media import read_video
from filmstrip.media.framing import bordered, scaled


def halves(width, height):
    """Red at the left, blue at the right, a green line around."""
    picture = Image.new("RGB", (width, height), "green")
    picture.paste("red", (2, 2, width // 2, height - 2))
    picture.paste("blue", (width // 2, 2, width - 2, height - 2))
    return picture


@pytest.fixture
def wide(asked, tmp_path):
    halves(128, 64).save(tmp_path / "wide.png")
    return lambda fit: asked(inputs={"image": Source("wide.png", fit=fit)})


def test_each_fit_by_hand():
    wide = halves(128, 64)
    cropped = np.asarray(scaled(wide, 64, 64, "crop"))
    np.testing.assert_array_equal(cropped, np.asarray(wide)[:, 32:96])
    inner = scaled(wide, 64, 64, "pad")
    assert inner.size == (64, 32)
    whole = np.asarray(bordered(inner, 64, 64))
    assert whole.shape == (64, 64, 3) and whole[:16].max() == whole[48:].max() == 0
    np.testing.assert_array_equal(whole[16:48], np.asarray(inner))
    np.testing.assert_array_equal(np.asarray(scaled(wide, 64, 64, "stretch")), np.asarray(wide.resize((64, 64), 1)))
    assert scaled(halves(64, 128), 64, 64, "crop").size == (64, 64)
    assert scaled(halves(1000, 4), 64, 64, "pad").size == (64, 1)


@pytest.mark.parametrize(
    ("fit", "said"), [("crop", "is cropped to"), ("pad", "gets black borders"), ("stretch", "is stretched to 64x64")]
)
def test_a_fit_is_done_told_written_down_and_done_again(fit, said, wide, tmp_path):
    resolved = resolve_job(wide(fit))
    assert [note for note in resolved.notes if said in note and "The image is 128x64" in note]
    assert resolved.request.size.width == resolved.request.size.height == 64
    made = Path("out.mkv")
    make(resolved, [made], lambda _: None)
    record = read_metadata(made)
    assert record["inputs"]["image"]["fit"] == fit
    again = job_of(record, made)
    assert again.inputs["image"].fit == fit
    make(resolve_job(again), [Path("again.mkv")], lambda _: None)
    np.testing.assert_array_equal(read_video("again.mkv")[0], read_video("out.mkv")[0])
    assert read_metadata("again.mkv") == record


def test_fits_make_different_videos_and_pixels_are_known_by_the_picture(wide):
    videos, digests = [], set()
    for fit in ("crop", "pad", "stretch"):
        resolved = resolve_job(wide(fit))
        digests.add(resolved.inputs["image"].pixels_sha256)
        make(resolved, [Path(f"{fit}.mkv")], lambda _: None)
        videos.append(read_video(f"{fit}.mkv")[0])
    assert len(digests) == 1
    assert not any(np.array_equal(videos[one], videos[one - 1]) for one in range(3))


def test_a_record_without_a_fit_means_that_it_was_stretched(wide):
    make(resolve_job(wide("stretch")), [Path("out.mkv")], lambda _: None)
    record = json.loads(json.dumps(read_metadata("out.mkv")))
    del record["inputs"]["image"]["fit"]
    job = job_of(record, Path("out.mkv"))
    assert job.inputs["image"].fit == "stretch"
    make(resolve_job(job), [Path("again.mkv")], lambda _: None)
    np.testing.assert_array_equal(read_video("again.mkv")[0], read_video("out.mkv")[0])


@pytest.mark.parametrize("fit", ["squash", "", "None", "CROP"])
def test_another_fit_is_refused(fit, wide):
    with pytest.raises(ValueError, match="fitted to the video by crop, pad or stretch, got"):
        resolve_job(wide(fit))


def test_a_clip_is_fitted_frame_by_frame(asked, tmp_path):
    export_to_video([halves(128, 64)] * 9, tmp_path / "clip.mkv", 8)
    notes = resolve_job(asked(inputs={"video": Source("clip.mkv")})).notes
    assert [note for note in notes if "The video is 128x64 and is cropped" in note]


def test_without_a_size_the_video_has_the_proportions_of_the_picture(asked, tmp_path):
    halves(256, 128).save(tmp_path / "wide.png")
    job = asked(inputs={"image": Source("wide.png")})
    job = replace(job, arguments={key: value for key, value in job.arguments.items() if key not in ("height", "width")})
    resolved = resolve_job(job)
    size = resolved.request.size
    assert (size.width, size.height) == (96, 48)  # of 64x64 pixels and multiples of 8
    assert [note for note in resolved.notes if "The video is 96x48, by the proportions of the image (256x128)" in note]
    assert (resolved.settings["width"], resolved.settings["height"]) == (96, 48)
    make(resolved, [Path("out.mkv")], lambda _: None)
    again = resolve_job(job_of(read_metadata("out.mkv"), Path("out.mkv")))
    assert (again.request.size.width, again.request.size.height) == (96, 48)
    assert not [note for note in again.notes if "by the proportions" in note]
    assert not [note for note in resolve_job(replace(job, inputs={})).notes if "proportions" in note]


def picture_of(width, height):
    return {"image": Input("a.png", "", [Image.new("RGB", (width, height))])}


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (1920, 1080, (800, 448)),
        (1080, 1920, (448, 800)),
        (1000, 1000, (608, 608)),
        (704, 512, None),
        (1400, 1020, None),
        (100_000, 10, (1056, 352)),
        (1, 9999, (352, 1056)),
    ],
)
def test_sizes_by_hand(width, height, size):
    usual = {"height": 512, "width": 704}
    found = size_by_inputs(picture_of(width, height), (), usual, 32)
    if size is None:
        assert found is None
        return
    sides, sentence = found
    assert (sides["width"], sides["height"]) == size and f"{size[0]}x{size[1]}" in sentence
    assert size_by_inputs(picture_of(width, height), ("height",), usual, 32) is None
    assert size_by_inputs(picture_of(width, height), (), usual, None) is None
    assert size_by_inputs(picture_of(width, height), (), {}, 32) is None
    assert size_by_inputs({}, (), usual, 32) is None


def test_a_model_of_one_size_keeps_it(asked, tmp_path, monkeypatch):
    from filmstrip.assembly import Pipeline

    halves(256, 128).save(tmp_path / "wide.png")
    ask = Pipeline.request

    def only_square(self, *args, **given):
        request = ask(self, *args, **given)
        if request.size.width != request.size.height:
            raise ValueError("This checkpoint has learned positions for squares only.")
        return request

    monkeypatch.setattr(Pipeline, "request", only_square)
    job = asked(inputs={"image": Source("wide.png")})
    job = replace(job, arguments={key: value for key, value in job.arguments.items() if key not in ("height", "width")})
    resolved = resolve_job(job)
    assert (resolved.request.size.width, resolved.request.size.height) == (64, 64)
    assert [note for note in resolved.notes if "is cropped" in note]


def test_an_address_is_written_down_without_what_opens_it(caplog, monkeypatch):
    one = Input("https://user:hunter2@example.org/a.png?signature=1", "", [Image.new("RGB", (8, 8))])
    assert one.record["source"] == "https://example.org/a.png"
    with pytest.raises(ValueError, match=r"https://example\.org/a\.png has 1 frames, 2 were asked for"):
        one.first(2)
    from filmstrip import media

    monkeypatch.setattr(media, "load_image", lambda _: Image.new("RGB", (8, 8)))
    source = Source(one.source, pixels_sha256="another", made="out.mkv")
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="has changed since") as refused:
        read_input("image", source)
    assert "hunter2" not in str(refused.value) + caplog.text and "signature" not in str(refused.value) + caplog.text
    assert read_input("image", replace(source, pixels_sha256=None)).source == one.source, "it is needed to fetch it"


def test_pictures_larger_than_the_machine_are_refused_before_they_are_made():
    asked = {"width": 10**6, "height": 10**6}
    one = Input("a.png", "", [Image.new("RGB", (8, 6))])
    with pytest.raises(ValueError, match=r"1 pictures of 1000000x1000000 take 3,000 GB.*smaller --size"):
        framed_pictures({"image": one}, asked)
