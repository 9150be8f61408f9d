"""`--then`: passes that change the video of the one before, and what is left of them."""

import json

import numpy
import pytest
import torch

from filmstrip import LTXLatentUpsamplePipeline, load_video, read_metadata
from filmstrip.models.ltx.upsampler import LTXLatentUpsamplerModel
from tests.cli.tiny_checkpoint import SMALL, tiny_pipeline


@pytest.fixture(scope="session")
def upsampler(tmp_path_factory):
    """The folder of a checkpoint that makes videos twice as large, and takes no words."""
    torch.manual_seed(0)
    vae = tiny_pipeline().vae
    network = LTXLatentUpsamplerModel(
        in_channels=vae.config.latent_channels, mid_channels=32, num_blocks_per_stage=1, dims=3, spatial_upsample=True
    )
    folder = tmp_path_factory.mktemp("upsampler") / "upsampler"
    LTXLatentUpsamplePipeline(vae=vae, latent_upsampler=network).save_pretrained(folder)
    return folder


def made(filmstrip, *words):
    result = filmstrip(*words)
    assert result.exit_code == 0, result.stderr
    return result


def frames(path):
    return numpy.stack([numpy.asarray(one) for one in load_video(str(path))])


def test_a_second_pass_is_what_generate_makes_of_the_first_video(filmstrip, checkpoint, tmp_path):
    words = ("generate", "a cat", "--model", checkpoint, *SMALL, "--seed", "5")
    later = ("--then", checkpoint, "--then-size", "96x64", "--then-strength", "0.6")
    made(filmstrip, *words, *later, "-o", "both.mkv")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["both.json", "both.mkv"], "nothing else is left"
    made(filmstrip, *words, "-o", "first.mkv")
    by_hand = ("--size", "96x64", "--set", "denoise_strength=0.6", "--video", "first.mkv", "--seed", "5")
    made(filmstrip, "generate", "a cat", "--model", checkpoint, "--device", "cpu", *by_hand, "-o", "hand.mkv")
    assert frames("both.mkv").shape[1:3] == (64, 96)
    assert numpy.array_equal(frames("both.mkv"), frames("hand.mkv"))
    assert read_metadata("both.mkv")["before"] == {
        name: value for name, value in read_metadata("first.mkv").items() if not name.startswith("_")
    }


def test_a_rerun_makes_all_passes_again_and_takes_changes(filmstrip, checkpoint):
    later = ("--then", checkpoint, "--then-size", "96x64", "--then-strength", "0.6")
    made(filmstrip, "generate", "a cat", "--model", checkpoint, *SMALL, "--seed", "5", *later, "-o", "a.mkv")
    made(filmstrip, "rerun", "a.mkv", "-o", "b.mkv")
    assert numpy.array_equal(frames("a.mkv"), frames("b.mkv"))
    made(filmstrip, "rerun", "a.mkv", "-o", "c.mkv", "--seed", "6", "--prompt", "a dog")
    record = read_metadata("c.mkv")
    assert (record["seed"], record["prompt"]) == (record["before"]["seed"], record["before"]["prompt"]) == (6, "a dog")
    assert not numpy.array_equal(frames("a.mkv"), frames("c.mkv"))


def test_three_passes_of_two_videos(filmstrip, checkpoint, upsampler, tmp_path):
    passes = ("--then", upsampler, "--then", checkpoint, "--num-videos", "2")
    made(filmstrip, "generate", "a cat", "--model", checkpoint, *SMALL, "--seed", "5", *passes, "-o", "x.mkv")
    assert {one.name for one in tmp_path.iterdir()} == {"x-1.mkv", "x-1.json", "x-2.mkv", "x-2.json"}
    for number in (1, 2):
        record = read_metadata(f"x-{number}.mkv")
        assert record["seed"] == record["before"]["seed"] == record["before"]["before"]["seed"] == 4 + number
        assert record["before"]["pipeline"] == "LTXLatentUpsamplePipeline"
        assert frames(f"x-{number}.mkv").shape[:3] == (9, 128, 128)
    made(filmstrip, "rerun", "x-2.mkv", "-o", "again.mkv")
    assert numpy.array_equal(frames("again.mkv"), frames("x-2.mkv"))


def test_a_dry_run_says_what_each_pass_would_make(filmstrip, checkpoint, upsampler):
    words = ("generate", "a cat", "--model", checkpoint, *SMALL, "--then", upsampler, "--dry-run")
    assert "9 frames of 128x128" in " ".join(made(filmstrip, *words).stdout.split())
    told = json.loads(made(filmstrip, *words, "--json").stdout)["then"]
    assert (told["pipeline"], told["resolved"]["width"]) == ("LTXLatentUpsamplePipeline", 128)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--then", "{upsampler}", "--then-strength", "0.5"], "takes no strength; leave out --then-strength"),
        (["--then", "{checkpoint}", "--then-size", "96x65"], "can't make the next pass: height must be a multiple"),
        (["--then", "{checkpoint}", "--then-strength", "1.5"], "denoise_strength must be"),
        (["--then-size", "96x64"], "--then-size was given 1 times and --then 0"),
        (["--then", "nowhere"], "there is no folder 'nowhere'"),
        (["--then", "shapes", "--then-size", "big"], "--size takes WIDTHxHEIGHT"),
    ],
)
def test_passes_that_make_no_sense_are_refused_before_the_first(
    filmstrip, checkpoint, upsampler, tmp_path, words, sentence
):
    words = [word.format(checkpoint=checkpoint, upsampler=upsampler) for word in words]
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, *words)
    assert result.exit_code == 2 and sentence in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


def test_when_a_later_pass_fails_what_was_made_before_stays_and_is_told(filmstrip, checkpoint, tmp_path, monkeypatch):
    from filmstrip.jobs import passes

    monkeypatch.setattr(passes, "load", lambda _: 1 / 0)
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, "--then", checkpoint, "-o", "a.mkv", "-q")
    assert result.exit_code == 1
    [left] = [one.name for one in tmp_path.iterdir() if one.suffix == ".mkv"]
    assert left in result.stderr and "generate --video goes on from it" in result.stderr
    assert len(frames(left)) == 9


def test_each_model_is_loaded_once_for_all_videos(filmstrip, checkpoint, upsampler, monkeypatch):
    from filmstrip.jobs import passes, videos

    loaded = []
    for module in (passes, videos):
        monkeypatch.setattr(module, "load", lambda one, load=videos.load: loaded.append(one.call.name) or load(one))
    words = ("--then", upsampler, "--then", checkpoint, "--num-videos", "2", "-o", "x.mkv")
    made(filmstrip, "generate", "a cat", "--model", checkpoint, *SMALL, *words)
    assert loaded == ["LTXPipeline", "LTXLatentUpsamplePipeline", "LTXConditionPipeline"]


def test_a_video_that_is_done_is_told_when_the_pass_of_the_next_one_fails(filmstrip, checkpoint, tmp_path, monkeypatch):
    from filmstrip.jobs import videos

    write, seen = videos.write_video, []

    def once(*given):
        seen.append(given)
        return write(*given) if len(seen) == 1 else 1 / 0

    monkeypatch.setattr(videos, "write_video", once)
    words = ("--then", checkpoint, "--num-videos", "2", "-o", "x.mkv", "-q")
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, *words)
    assert result.exit_code == 1 and "x-1-before-1.mkv; generate --video goes on from it" in result.stderr
    assert len(frames("x-1-before-1.mkv")) == 9


def test_without_the_prompt_no_pass_tells_it(filmstrip, checkpoint, tmp_path):
    words = ("--then", checkpoint, "--no-prompt", "-o", "a.mkv")
    made(filmstrip, "generate", "a secret cat", "--model", checkpoint, *SMALL, *words)
    assert read_metadata("a.mkv")["before"]["prompt"] is None
    assert b"secret" not in (tmp_path / "a.mkv").read_bytes() + (tmp_path / "a.json").read_bytes()
