"""Bad input: one sentence on stderr, status 2, and nothing generated."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.cli.tiny_checkpoint import SMALL

WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = "num_inference_steps"


@pytest.fixture(autouse=True)
def _nothing_is_generated(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was generated")

    monkeypatch.setattr("filmstrip.generation.run", refuse)


def expect_error(result, *words):
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if not line.startswith("Note: ")]) == 1
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "--size", "65x64"], ["width", "multiple of 8", "64 or 72"]),
        (["a", "--size", "0x64"], ["width"]),
        (["a", "--size", "large"], ["--size", "704x512", "'large'"]),
        (["a", "--num-frames", "0"], ["num_frames", "got 0"]),
        (["a", "--num-frames", "many"], ["--num-frames", "integer"]),
        (["a", "--seconds", "-1"], ["--seconds", "-1"]),
        (["a", "--seconds", "1", "--num-frames", "9"], ["--num-frames", "--seconds"]),
        (["a", "--fps", "0"], ["frame_rate", "got 0"]),
        (["a", "--fps", "nan"], ["--fps"]),
        (["a", "--fps", "60", "-o", "out.gif"], ["GIF", "60"]),
        (["a", "--steps", "0"], [STEPS, "got 0"]),
        (["a", "--guidance-scale", "inf"], ["--guidance-scale"]),
        (["a", "--num-videos", "0"], ["--num-videos", "0"]),
        (["a", "--seed", "-1"], ["--seed", "-1"]),
        ([""], ["prompt is empty"]),
        ([], ["a prompt is needed"]),
        (["a", "--set", "prompt_embeds=[1]"], ["prompt_embeds", "--set"]),
        (["a", "--set", "prompt=b"], ["PROMPT", "prompt"]),
        (["a", "--image", "none.png"], ["none.png"]),
        (["a", "--video", "none.mp4"], ["none.mp4"]),
        (["a", "--image", "notes.txt"], ["notes.txt", "picture"]),
        (["a", "--video", "notes.txt"], ["notes.txt", "video"]),
        (["a", "--scheduler", "FlowMatchEulerScheduler"], ["FlowMatchEulerDiscreteScheduler"]),
        (["a", "--stepz", "3"], ["--stepz", "--steps"]),
        (["-10 degrees"], ["-1", '-- "-10 degrees"', "begins with a dash"]),
        (["--seeds in the wind"], ['-- "--seeds in the wind"']),
        (["--a storm, 2-5 m", "--steps", "3"], ["--a storm", '-- "--a storm, 2-5 m"']),
        (["a", "-o", "out.avi"], [".avi", ".mp4"]),
        (["a", "-o", "."], ["."]),
        (["a", "-o", "folder.mp4"], ["folder.mp4", "folder"]),
        (["a", "-o", "notes.txt/out.mp4"], ["notes.txt/out.mp4", "can't be written"]),
        (["a", "--dtype", "int8"], ["dtype", "int8", "bfloat16"]),
        (["a", "--device", "tpu"], ["tpu", "cpu"]),
        (["a", "--device", "meta"], ["meta"]),
        (["a", "--set", "num_inference_step=3"], ["num_inference_step", f"did you mean '{STEPS}'"]),
        (["a", "--set", f"{STEPS}=three"], [STEPS, "a whole number", "'three'"]),
        (["a", "--set", "guidance_scale=true"], ["guidance_scale", "a number", "true"]),
        (["a", "--set", STEPS], ["NAME=VALUE", STEPS]),
        (["a", "--set", "height=64"], ["height", "--size"]),
        (["a", "--set", "callback_on_step_end=x"], ["callback_on_step_end", "Python"]),
        (["a", "--steps", "3", "--set", f"{STEPS}=3"], ["--steps", STEPS]),
        (["a", "--set", "decode_timestep=0.1"], ["decode_timestep"]),
    ],
    ids=" ".join,
)
def test_it_is_refused_before_anything_is_loaded(filmstrip, tmp_path, outline, words, said):
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "folder.mp4").mkdir()
    expect_error(filmstrip("generate", *words, "--model", outline), *said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("shape", ["shape", "shapes"]),
        ("./nowhere", ["nowhere"]),
        ("empty", ["empty", "not a checkpoint"]),
        ("notes.txt", ["notes.txt", "file"]),
        ("foreign", ["PickleLoader"]),
    ],
)
@pytest.mark.parametrize("command", ["generate", "inspect"])
def test_an_unknown_model_is_refused(filmstrip, tmp_path, command, model, said):
    (tmp_path / "notes.txt").write_text("no checkpoint")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    index = {"_class_name": "LTXPipeline", "vae": ["elsewhere", "PickleLoader"]}
    (tmp_path / "foreign" / "model_index.json").write_text(json.dumps(index))
    words = ["generate", "a", "--model", model] if command == "generate" else ["inspect", model]
    expect_error(filmstrip(*words), *said)


def truncated(folder):
    path = folder / "transformer" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    return ["transformer"]


def tampered(folder):
    path = folder / "vae" / WEIGHTS
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    return ["vae"]


def without_a_shard(folder):
    index = {"weight_map": {"proj_in.weight": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
    (folder / "transformer" / WEIGHTS).unlink()
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    return ["00002-of-00002", "missing"]


def without_a_tensor(folder):
    path = folder / "transformer" / WEIGHTS
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "proj_in.weight"}, path)
    return ["proj_in.weight", "missing"]


def with_a_tensor_left_over(folder):
    path = folder / "transformer" / WEIGHTS
    tensors = load_file(path)
    save_file(tensors | {"proj_odd.weight": tensors["proj_in.weight"].clone()}, path)
    return ["proj_odd.weight", "left over"]


def without_weights(folder):
    (folder / "vae" / WEIGHTS).unlink()
    return ["vae", "no weights"]


@pytest.mark.parametrize(
    "damage", [truncated, tampered, without_a_shard, without_a_tensor, with_a_tensor_left_over, without_weights]
)
def test_a_damaged_checkpoint_is_refused(filmstrip, tmp_path, checkpoint, damage):
    folder = shutil.copytree(checkpoint, tmp_path / "damaged")
    said = damage(folder)
    expect_error(filmstrip("generate", "a", "--model", "damaged", "-o", "out.mp4", "-q", *SMALL), *said)
    assert not list(tmp_path.glob("*out*"))


def test_a_type_that_the_device_lacks_is_refused(filmstrip, outline, monkeypatch):
    monkeypatch.setattr("filmstrip.devices.supports_dtype", lambda device, dtype: False)
    result = filmstrip("generate", "a", "--model", outline, "--dtype", "bfloat16", "--device", "cpu")
    expect_error(result, "cpu", "bfloat16", "--dtype")


def test_the_input_is_not_replaced(filmstrip, outline, tmp_path):
    from filmstrip import export_to_video

    export_to_video(_black_frames(), tmp_path / "clip.mkv")
    result = filmstrip("generate", "a", "--model", outline, "--video", "clip.mkv", "-o", "./clip.mkv")
    expect_error(result, "clip.mkv", "replaced")


def _black_frames():
    import numpy as np

    return np.zeros((9, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(("name", "said"), [("none.mp4", "no file"), ("notes.mp4", "carries no metadata")])
def test_rerun_needs_a_file_of_ours(filmstrip, tmp_path, name, said):
    (tmp_path / "notes.mp4").write_text("no video")
    expect_error(filmstrip("rerun", name), name, said)


def test_rerun_needs_the_commands_own_record(filmstrip, tmp_path):
    from filmstrip import export_to_video

    export_to_video(_black_frames(), tmp_path / "out.mkv", metadata={"prompt": "a"})
    expect_error(filmstrip("rerun", "out.mkv"), "out.mkv", "filmstrip generate")


def test_debug_shows_where_it_comes_from(filmstrip, outline):
    result = filmstrip("generate", "", "--model", outline, "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: The prompt is empty")


def test_a_failure_is_no_bad_input(filmstrip, checkpoint, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory\nand a lot of detail")

    monkeypatch.setattr("filmstrip.generation.run", fail)
    result = filmstrip("generate", "a", "--model", checkpoint, "-q")
    assert result.exit_code == 1
    assert result.stderr == "Error: RuntimeError: out of memory (--debug shows where)\n"
