"""Weight files: found under all their names, and never half read."""

import json
import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from filmstrip.checkpoints import CheckpointError
from filmstrip.checkpoints.files import Weights, find_weights, variants
from filmstrip.checkpoints.tensors import SafetensorsFile, read_header

CPU = torch.device("cpu")
TENSORS = {
    "wide": torch.arange(12, dtype=torch.float32).view(3, 4),
    "half": torch.tensor([1.5, -2.0]).bfloat16(),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def test_a_header_tells_types_shapes_and_sizes(path):
    header = read_header(path)
    assert {name: (entry.dtype, entry.shape, entry.nbytes) for name, entry in header.items()} == {
        name: (tensor.dtype, tuple(tensor.shape), tensor.nbytes) for name, tensor in TENSORS.items()
    }


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float64])
def test_values_are_those_of_the_file_in_the_wanted_type(path, dtype):
    file = SafetensorsFile(path)
    loaded = {name: file.load(name, dtype or tensor.dtype, CPU) for name, tensor in TENSORS.items()}
    for name, tensor in TENSORS.items():
        assert torch.equal(loaded[name], tensor.to(dtype or tensor.dtype)), name


def test_tensors_at_odd_addresses_are_read_right(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (9 - len(header) % 8)
    values = torch.tensor([1.0, 2.0])
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + values.numpy().tobytes())
    loaded = SafetensorsFile(path).load("a", torch.float32, CPU)
    assert torch.equal(loaded, values) and loaded.data_ptr() % 4 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not have files with holes")
def test_a_file_larger_than_the_memory_of_the_machine_is_mapped(tmp_path):
    size = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + size)
    tensor = SafetensorsFile(path).load("a", torch.uint8, CPU)
    tensor[-1] = 3
    assert tensor[[0, -1]].tolist() == [0, 3]


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1, -40])
def test_a_truncated_file_is_named_with_what_to_do(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is cut off.* download"):
        read_header(path)


TAMPERED = {
    "not JSON": lambda header: b"{" + header[:-1],
    "a list": lambda header: b"[]" + b" " * (len(header) - 2),
    "unknown type": lambda header: header.replace(b"BF16", b"XF16"),
    "wrong shape": lambda header: header.replace(b"[3,4]", b"[3,5]"),
    "negative shape": lambda header: header.replace(b"[3,4]", b"[-3,4]"[: len(b"[3,4]") + 1]).replace(b"}}}", b"}}"),
    "no offsets": lambda header: header.replace(b"data_offsets", b"data_offsetz"),
    "overlap": lambda header: header.replace(b"[0,8]", b"[4,12]"),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_header_is_named(path, change):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length])
    assert header != content[8 : 8 + length]
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(CheckpointError, match=r"the header of .*model\.safetensors is damaged"):
        read_header(path)


def test_a_file_with_more_bytes_than_it_describes_is_refused(path):
    path.write_bytes(path.read_bytes() + b"xx")
    with pytest.raises(CheckpointError, match="2 bytes more"):
        read_header(path)


def test_a_pointer_instead_of_weights_is_refused(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("diffusion_pytorch_model.safetensors", None),
        ("model.safetensors", None),
        ("diffusion_pytorch_model.fp16.safetensors", "fp16"),
        ("model.bf16.safetensors", "bf16"),
    ],
)
def test_a_single_file_is_found_under_its_names(tmp_path, name, variant):
    save_file(TENSORS, tmp_path / name)
    assert find_weights(tmp_path, variant) == (tmp_path / name,)
    assert variants(tmp_path) == {variant}


@pytest.mark.parametrize(
    ("index", "variant"),
    [
        ("model.safetensors.index.json", None),
        ("model.safetensors.index.fp16.json", "fp16"),
        ("model.safetensors.fp16.index.json", "fp16"),
        ("model.fp16.safetensors.index.json", "fp16"),
    ],
)
def test_shards_are_found_through_each_form_of_index(tmp_path, index, variant):
    label = f"model.{variant}" if variant else "model"
    shards = [f"{label}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for shard, name in zip(shards, ("wide", "half"), strict=True):
        save_file({name: TENSORS[name]}, tmp_path / shard)
    (tmp_path / index).write_text(json.dumps({"weight_map": dict(zip(("wide", "half"), shards, strict=True))}))
    weights = Weights(find_weights(tmp_path, variant))
    assert set(weights) == {"wide", "half"}
    assert torch.equal(weights.load("half", torch.bfloat16, CPU), TENSORS["half"])
    assert variants(tmp_path) == {variant}
    (tmp_path / shards[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"1 of the 2 files .* missing \({shards[1]}\); download"):
        find_weights(tmp_path, variant)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}'])
def test_a_damaged_index_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json is not an index"):
        find_weights(tmp_path)


def test_an_index_can_not_point_out_of_its_folder(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')
    with pytest.raises(CheckpointError, match="outside its folder"):
        find_weights(tmp_path)


@pytest.mark.parametrize("new_format", [True, False])
def test_bin_files_are_read_without_running_them(tmp_path, new_format):
    torch.save(dict(TENSORS), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    weights = Weights(find_weights(tmp_path))
    assert torch.equal(weights.load("wide", torch.float32, CPU), TENSORS["wide"])
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert find_weights(tmp_path) == (tmp_path / "model.safetensors",)


class Code:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_bin_file_with_code_in_it_is_refused(tmp_path, capsys):
    torch.save({"a": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        Weights(find_weights(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_truncated_bin_file_is_named(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(dict(TENSORS), path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin can't be read"):
        Weights(find_weights(tmp_path))


def test_what_a_folder_has_instead_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"no diffusion_pytorch_model\.safetensors"):
        find_weights(tmp_path)
    save_file(TENSORS, tmp_path / "model.fp16.safetensors")
    with pytest.raises(CheckpointError, match="load with variant='fp16'"):
        find_weights(tmp_path)
    with pytest.raises(CheckpointError, match="no weights of the variant 'bf16'; it has 'fp16'"):
        find_weights(tmp_path, "bf16")
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert find_weights(tmp_path, "bf16", variant_required=False) == (tmp_path / "model.safetensors",)
