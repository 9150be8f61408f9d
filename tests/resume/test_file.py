"""Values that are written to one file and read again."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from filmstrip.generation.resolve import Resolved
from filmstrip.randomness import NoiseState
from filmstrip.resume.file import Unwritable, check_writable, is_light, read, sealed, write
from filmstrip.schedulers.prediction import Level

PLAIN = {
    "nothing": None,
    "numbers": [1, 2.5, -math.inf, 0.1 + 0.2, 2**63],
    "pair": (True, "é\n"),
    "nested": {"a": [(1,), [2]], 3: {}},
    "level": Level(0.6, 0.8),
    "size": Resolved(64, 96, 9, 9, 25.0, (2, 8, 12), 192, adjustments=("cut",)),
    "type": torch.bfloat16,
}


def test_plain_values_come_back_as_they_were(tmp_path):
    write(tmp_path / "x", PLAIN)
    found = read(tmp_path / "x")
    assert found == PLAIN
    assert type(found["pair"]) is tuple and type(found["level"]) is Level
    assert [one.name for one in tmp_path.iterdir()] == ["x"], "nothing else is left in the folder"


def test_tensors_come_back_bit_by_bit(tmp_path):
    shared = torch.randn(4, 6)
    value = {
        "halves": [shared[:2], shared[2:], shared.t(), shared],
        "types": [shared.to(one) for one in (torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8)],
        "noise": NoiseState("cpu", (torch.randn(3), torch.empty(0))),
        "arrays": (np.arange(6.0).reshape(2, 3)[:, ::-1], np.float32(0.1), np.array(3)),
    }
    write(tmp_path / "x", value)
    found = read(tmp_path / "x")
    for name in ("halves", "types"):
        for one, other in zip(value[name], found[name], strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)
    assert type(found["noise"]) is NoiseState and not found["noise"].is_list
    assert all(map(torch.equal, found["noise"].states, value["noise"].states))
    for one, other in zip(value["arrays"], found["arrays"], strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pictures_come_back_pixel_by_pixel(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    write(tmp_path / "x", [picture])
    [found] = read(tmp_path / "x")
    assert found.mode == mode and found.size == picture.size
    assert np.array_equal(np.asarray(found.convert("RGBA")), np.asarray(picture.convert("RGBA")))


@pytest.mark.parametrize("value", [print, {"a": [torch.Generator()]}, Image, object()])
def test_what_can_not_be_written_is_named(tmp_path, value):
    for take in (check_writable, lambda one: write(tmp_path / "x", one)):
        with pytest.raises(Unwritable, match="can't be written down"):
            take(value)
    assert not list(tmp_path.iterdir())


def test_a_file_in_its_place_stays_if_the_new_one_fails(tmp_path):
    write(tmp_path / "x", 1)
    with pytest.raises(Unwritable):
        write(tmp_path / "x", print)
    assert read(tmp_path / "x") == 1


def test_damaged_and_other_files_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "x"
    write(path, {"latents": torch.zeros(1000)})
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:4], b"", b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is cut off, damaged or no file of an unfinished video"):
            read(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="tensors of something else"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_only_records_are_made_and_by_names_that_stay(tmp_path):
    path = tmp_path / "x"
    write(path, PLAIN)
    with safe_open(path, "pt") as file:
        header = file.metadata()["filmstrip"]
    assert '"record": "size"' in header and "filmstrip." not in header, "no module and no class is named"
    for name in ("subprocess:Popen", "filmstrip.assembly.pipeline:Pipeline", "Pipeline"):
        content = {"format": 2, "of": "", "value": {"record": name, "values": {}}}
        save_file({}, path, metadata={"filmstrip": sealed(content, {})})
        with pytest.raises(ValueError, match="which this version does not know"):
            read(path)


def test_a_field_that_a_file_lacks_has_its_default_and_an_unknown_one_is_an_error(tmp_path):
    path = tmp_path / "x"
    values = {name: getattr(PLAIN["size"], name) for name in ("height", "width", "num_frames", "generated_frames")}
    values |= {"frame_rate": 25.0, "latent_size": [2, 8, 12], "num_tokens": 192}

    def read_with(**values):
        content = {"format": 2, "of": "", "value": {"record": "size", "values": values}}
        save_file({}, path, metadata={"filmstrip": sealed(content, {})})
        return read(path)

    assert read_with(**values).adjustments == () and read_with(**values).height == 64
    with pytest.raises(ValueError, match="it lacks height"):
        read_with(**{name: value for name, value in values.items() if name != "height"})
    with pytest.raises(ValueError, match="has depth, which this version does not know"):
        read_with(**values, depth=3)


def test_what_has_no_tensors_and_no_pictures_is_light_and_nothing_is_written_to_find_out(monkeypatch):
    monkeypatch.setattr("filmstrip.resume.file._png", lambda _: 1 / 0)
    assert is_light(PLAIN)
    for value in (torch.zeros(1), Image.new("L", (1, 1)), print, np.zeros(1)):
        for heavy in (value, [value], {"a": (value,)}):
            assert not is_light(heavy)


def test_a_file_of_another_version_says_so(tmp_path):
    save_file(
        {}, tmp_path / "x", metadata={"filmstrip": json.dumps({"object": "filmstrip.generation.keeping:Unfinished"})}
    )
    with pytest.raises(ValueError, match="written by another version of filmstrip"):
        read(tmp_path / "x")


def test_any_byte_that_changes_is_found(tmp_path):
    path = tmp_path / "x"
    write(path, {"latents": torch.zeros(2, 3), "type": torch.bfloat16, "seed": 3})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="is cut off, damaged or no file of an unfinished video") as error:
            read(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole)
    assert read(path)["seed"] == 3


def crafted(path, value, tensors=None):
    tensors = tensors or {}
    save_file(tensors, path, metadata={"filmstrip": sealed({"format": 2, "of": "", "value": value}, tensors)})


CRAFTED = [
    {},
    {"tensor": "none"},
    {"tensor": ["a"]},
    {"tensor": "a", "more": 1},
    {"float": "one"},
    {"float": {}},
    {"dtype": "Tensor"},
    {"dtype": "load"},
    {"dtype": 3},
    {"tuple": 3},
    {"dict": [[1]]},
    {"dict": [[[1], 2]]},
    {"array": "a", "shape": [7]},
    {"array": "a"},
    {"picture": "a"},
    {"record": "size", "values": 3},
    {"record": ["size"], "values": {}},
    {"record": "level", "values": {"alpha": "much", "sigma": 0.5}},
    {"record": "noise", "values": {"device": 3, "states": {"tuple": []}}},
    {"unheard of": 1},
]


@pytest.mark.parametrize("value", CRAFTED, ids=range(len(CRAFTED)))
def test_what_is_made_by_hand_is_refused_in_one_sentence(tmp_path, value):
    crafted(tmp_path / "x", value, {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match="is cut off, damaged or no file of an unfinished video") as error:
        read(tmp_path / "x")
    assert "\n" not in str(error.value) and "NoneType" not in str(error.value)


def test_a_file_without_a_checksum_is_refused(tmp_path):
    save_file({}, tmp_path / "x", metadata={"filmstrip": json.dumps({"format": 2, "of": "", "value": 3})})
    with pytest.raises(ValueError, match="it has no checksum"):
        read(tmp_path / "x")


def test_a_value_may_lie_deep_but_not_without_end(tmp_path):
    value = 1
    for _ in range(60):
        value = {"a": [value]}
    write(tmp_path / "x", value)
    assert read(tmp_path / "x") == value
    crafted(tmp_path / "x", json.loads("[" * 300 + "]" * 300))
    with pytest.raises(ValueError, match="its header is nested more than 256 levels deep"):
        read(tmp_path / "x")
