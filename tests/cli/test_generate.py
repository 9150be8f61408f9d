"""`filmstrip generate`: the file, its name, its metadata, and what is said about them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filmstrip import read_metadata
from filmstrip.media import read_video
from filmstrip.sharing import place_of
from tests.cli.tiny_checkpoint import SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generate(filmstrip, checkpoint):
    """`filmstrip generate` with the tiny checkpoint, successful."""

    def run(*words):
        result = filmstrip("generate", *SMALL, "--model", checkpoint, *words)
        assert result.exit_code == 0, result.stderr
        return result

    return run


def frames_of(path):
    return read_video(path)[0]


def test_the_file_has_what_was_asked_for(generate, tmp_path):
    generate("a cat", "-o", "deep/out.mkv", "--fps", "12", "--seed", "5")
    frames, fps = read_video(tmp_path / "deep" / "out.mkv")
    assert frames.shape == (9, 64, 64, 3)
    assert fps == 12
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out.mkv", "out.json"}


def test_the_metadata_hold_every_setting(generate, tmp_path, checkpoint):
    generate("a cat", "-o", "out.mp4", "--seed", "5", "--negative-prompt", "a dog", "--set", "guidance_rescale=0.5")
    record = read_metadata(tmp_path / "out.mp4")
    assert (record["prompt"], record["negative_prompt"], record["seed"]) == ("a cat", "a dog", 5)
    assert (place_of(record["model"]), record["pipeline"]) == (str(checkpoint), "LTXPipeline")
    assert record["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert record["device"] == "cpu"
    assert record["network_dtypes"] == dict.fromkeys(("vae", "text_encoder", "transformer"), "float32")
    assert set(record["versions"]) == {"filmstrip", "torch", "transformers"}
    expected = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8, "num_inference_steps": 2}
    expected |= {"guidance_scale": 3.0, "guidance_rescale": 0.5, "max_sequence_length": 128}
    assert expected.items() <= record["settings"].items()


def test_the_closing_table_says_what_was_made(generate):
    said = generate("a cat", "-o", "out.mp4", "--seed", "5", "--num-frames", "10").stdout
    for words in ("out.mp4", "10, 1.25 s", "64x64 at 8 fps", "encode", "denoise", "decode", "5", "the last 3 cut off"):
        assert words in said


def test_a_prompt_that_is_cut_off_is_told(generate):
    result = generate("a" * 200, "-o", "out.mp4", "--json", "--set", "max_sequence_length=64")
    assert set(json.loads(result.stdout)["files"][0]["cut_off"][0].replace(" ", "")) == {"a"}
    assert "not used" in generate("a" * 200, "-o", "out.mp4").stdout


def test_progress_is_told_in_lines_where_there_is_no_terminal(generate):
    lines = generate("a cat", "-o", "out.mp4").stderr.splitlines()
    assert [line.partition(":")[0].split()[0] for line in lines if "Note" not in line][:4] == [
        *("load", "encode", "denoise", "denoise")
    ]
    assert any(line.startswith("decode 9/9: ") for line in lines)


def test_json_is_all_that_stdout_holds(generate):
    content = json.loads(generate("a cat", "-o", "out.mp4", "--seed", "5", "--json").stdout)
    assert content["files"][0]["path"] == "out.mp4"
    assert content["files"][0]["seed"] == 5
    assert set(content["files"][0]["seconds"]) == {"load", "encode", "denoise", "decode"}
    assert content["settings"]["num_inference_steps"] == 2


def test_quiet_tells_the_name_only(generate):
    result = generate("a cat", "-o", "out.mp4", "--quiet")
    assert (result.stdout, result.stderr) == ("out.mp4\n", "")


def test_without_a_seed_one_is_drawn_and_told(generate):
    seeds = {json.loads(generate("a cat", "--json").stdout)["files"][0]["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_a_default_name_never_replaces_a_file(generate, tmp_path):
    for _ in range(2):
        generate("A cat, on 2 mats!", "--seed", "5")
    made = sorted(path.name for path in (tmp_path / "outputs").glob("*.mp4"))
    assert made == ["a-cat-on-2-mats-5-2.mp4", "a-cat-on-2-mats-5.mp4"]


def test_each_of_several_videos_is_the_one_of_its_seed(generate, tmp_path):
    generate("a cat", "-o", "out.mkv", "--seed", "5", "--num-videos", "2")
    generate("a cat", "-o", "alone.mkv", "--seed", "6")
    first, second = (frames_of(tmp_path / f"out-{number}.mkv") for number in (1, 2))
    assert [read_metadata(tmp_path / f"out-{number}.mkv")["seed"] for number in (1, 2)] == [5, 6]
    assert not np.array_equal(first, second)
    assert np.array_equal(second, frames_of(tmp_path / "alone.mkv"))


def test_the_contact_sheet_lies_beside_the_video(generate, tmp_path):
    result = generate("a cat", "-o", "out.mkv", "--contact-sheet")
    assert "out.png" in result.stdout
    sheet = np.asarray(Image.open(tmp_path / "out.png"))
    first = frames_of(tmp_path / "out.mkv")[0]
    assert np.array_equal(sheet[4:68, 4:68], first)
    assert sheet.shape == (3 * 68 + 4, 3 * 68 + 4, 3)


def test_the_command_makes_what_the_library_makes(generate, tmp_path, checkpoint):
    import torch

    from filmstrip import LTXPipeline

    generate("a cat", "-o", "out.mkv", "--seed", "5")
    video = LTXPipeline.from_pretrained(checkpoint)(
        prompt="a cat", generator=torch.Generator().manual_seed(5), output_type="uint8"
    ).frames[0]
    assert np.array_equal(frames_of(tmp_path / "out.mkv"), video)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "LTXPipeline"),
        (["--image", "first.png"], "LTXImageToVideoPipeline"),
        (["--video", "clip.mkv"], "LTXConditionPipeline"),
        (["--video", "clip.mkv", "--image", "first.png"], "LTXConditionPipeline"),
    ],
)
def test_what_is_given_chooses_the_pipeline(filmstrip, outline, tmp_path, words, name):
    from filmstrip import export_to_video

    Image.new("RGB", (64, 48), "red").save(tmp_path / "first.png")
    export_to_video(np.zeros((9, 64, 64, 3), np.uint8), tmp_path / "clip.mkv")
    content = json.loads(filmstrip("generate", "a", "--model", outline, "--dry-run", "--json", *words).stdout)
    assert content["pipeline"] == name
    assert any("is cropped" in note for note in content["adjustments"]) == ("--image" in words)


def test_a_clip_as_long_as_the_video_is_changed_and_a_shorter_one_extended(filmstrip, outline, tmp_path):
    from filmstrip import export_to_video

    export_to_video(np.zeros((9, 64, 64, 3), np.uint8), tmp_path / "clip.mkv")
    words = ("generate", "a", "--model", outline, "--video", "clip.mkv", "--dry-run", "--json", "--num-frames")
    changed = json.loads(filmstrip(*words, "9").stdout)
    assert changed["settings"]["denoise_strength"] == 0.5  # the second of two steps is the first below a noise of 0.75
    assert any("The clip is changed" in note for note in changed["adjustments"])
    for more in (("17",), ("9", "--set", "strength=0.5")):
        assert json.loads(filmstrip(*words, *more).stdout)["settings"]["denoise_strength"] == 1


def test_an_image_is_where_the_video_begins(generate, tmp_path):
    for color in ("red", "blue"):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{color}.png")
        generate("a cat", "-o", f"{color}.mkv", "--seed", "5", "--image", f"{color}.png")
    assert not np.array_equal(frames_of(tmp_path / "red.mkv"), frames_of(tmp_path / "blue.mkv"))
    source = read_metadata(tmp_path / "red.mkv")["inputs"]["image"]["source"]
    assert place_of(source) == str(tmp_path / "red.png")


def test_a_dry_run_needs_no_weights_and_leaves_nothing(filmstrip, outline, tmp_path):
    words = ("generate", "a cat", "--model", outline, "--seconds", "1.25", "--size", "128x64", "--seed", "5")
    result = filmstrip(*words, "--dry-run")
    for said in ("outputs/a-cat-5.mp4", "10 (13 generated), 1.25 s", "128x64 at 8 fps", "the last 3 cut off"):
        assert said in result.stdout
    content = json.loads(filmstrip(*words, "--dry-run", "--json").stdout)
    assert content["resolved"]["generated_frames"] == 13
    assert content["settings"]["width"] == 128
    assert not list(tmp_path.iterdir())


def test_without_a_model_the_built_in_one_is_used_and_said(filmstrip, outline, monkeypatch):
    monkeypatch.setattr("filmstrip.checkpoints.locate.builtin_folder", lambda name: outline)
    result = filmstrip("generate", "a cat", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "built-in model 'shapes'" in result.stderr
    assert "--model" in result.stderr


@pytest.mark.parametrize("name", ["out.mp4", "a_folder_of_frames"])
def test_ctrl_c_while_writing_leaves_no_video(filmstrip, checkpoint, tmp_path, monkeypatch, name):
    from filmstrip.media import VideoWriter

    write, unfinished = VideoWriter.write, []

    def write_and_interrupt(self, frames):
        write(self, frames)
        unfinished.extend(tmp_path.iterdir())
        if self.num_frames == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "write", write_and_interrupt)
    result = filmstrip("generate", "a cat", "-o", name, "--contact-sheet", "--model", checkpoint, *SMALL)
    assert result.exit_code == 130
    assert unfinished or name == "out.mp4"  # which is begun late
    kept = Path(name).stem + ".latents.safetensors"
    assert [path.name for path in tmp_path.iterdir()] == [kept]
    assert f"filmstrip decode {kept}" in result.stderr


def test_ctrl_c_while_denoising_ends_with_130(checkpoint, tmp_path):
    words = ["generate", "a cat", "-o", "out.mp4", "--model", str(checkpoint), *SMALL, "--steps", "100000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "filmstrip", *words]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as running:
        signal.signal(signal.SIGINT, before)
        said = iter(running.stderr)
        assert any(line.startswith("encode") for line in said)
        running.send_signal(signal.SIGINT)
        rest = list(said)
    assert running.returncode == 130
    assert rest == ["Interrupted; no unfinished video is left.\n"]
    assert not list(tmp_path.iterdir())


def test_a_picture_is_fitted_as_is_said(filmstrip, outline, tmp_path):
    Image.new("RGB", (128, 64), "red").save(tmp_path / "wide.png")
    words = ("generate", "a", "--model", outline, "--dry-run", "--json", "--size", "64x64")
    for how, said in (
        ("crop", "is cropped"),
        ("pad", "gets black borders"),
        ("stretch", "is stretched"),
        (None, "cropped"),
    ):
        given = () if how is None else ("--fit", how)
        content = json.loads(filmstrip(*words, "--image", "wide.png", *given).stdout)
        assert any(said in note for note in content["adjustments"])
    refused = filmstrip(*words, "--image", "wide.png", "--fit", "squash")
    assert refused.exit_code == 2 and "crop, pad or stretch, got 'squash'" in refused.stderr
    alone = filmstrip(*words, "--fit", "pad")
    assert alone.exit_code == 2 and "none was given" in alone.stderr
