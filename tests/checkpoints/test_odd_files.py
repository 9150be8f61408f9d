"""Weight files that are whole and wrong: each is refused in a sentence, or read right."""

import json
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filmstrip.checkpoints import CheckpointError, inspect_checkpoint, read_model_index
from filmstrip.checkpoints.files import choose_files, open_weights
from filmstrip.checkpoints.loading import build_empty
from filmstrip.checkpoints.tensors import read_header
from filmstrip.files import is_single_part
from filmstrip.network import Model

STEM = "diffusion_pytorch_model"
CPU = torch.device("cpu")


class Layered(Model):
    def __init__(self, dim: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))


@pytest.fixture
def saved(tmp_path):
    model = Layered()
    model.save_pretrained(tmp_path)
    return model.state_dict(), tmp_path


def write(path, header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def in_shards(folder, shards, weight_map=None):
    """Write states as shards, and an index of them that may say something else."""
    for path in folder.glob(f"{STEM}*"):
        path.unlink()
    names = [f"{STEM}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name)
    true = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    content = {"weight_map": true if weight_map is None else weight_map(dict(true), names)}
    (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(content))


def halves(state):
    names = sorted(state)
    return [{n: state[n] for n in names[:2]}, {n: state[n] for n in names[2:]}]


@pytest.mark.parametrize("change", [torch.Tensor.int, torch.Tensor.bool])
def test_fractions_that_are_stored_as_whole_numbers_are_refused(saved, change):
    state, folder = saved
    save_file(state | {"layers.0.weight": change(state["layers.0.weight"])}, folder / f"{STEM}.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight is stored as .* where the model has fractions"):
        Layered.from_pretrained(folder)


def test_whole_numbers_that_are_stored_as_fractions_are_refused(saved):
    state, folder = saved
    save_file(state | {"count": torch.zeros(1)}, folder / f"{STEM}.safetensors")
    with pytest.raises(CheckpointError, match="count is stored as fractions where the model has whole numbers"):
        Layered.from_pretrained(folder)


def test_complex_numbers_in_a_bin_file_are_refused(saved):
    state, folder = saved
    (folder / f"{STEM}.safetensors").unlink()
    torch.save(dict(state) | {"layers.0.weight": torch.zeros(4, 4, dtype=torch.complex64)}, folder / f"{STEM}.bin")
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight is stored as complex numbers"):
        Layered.from_pretrained(folder)


def test_a_tensor_that_a_header_has_twice_is_refused(tmp_path):
    one = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = write(tmp_path / "model.safetensors", f"{{{one}, {one}}}".encode(), bytes(4))
    with pytest.raises(CheckpointError, match=r"the header of .* is damaged .*has the entry 'a' twice"):
        read_header(path)


HEADERS = [
    ({"a": 3}, "tensor a lacks"),
    ({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, r"\[\] is not a type"),
    ({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}, "tensor a has the shape 1"),
    ({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, r"tensor a has the shape \[1\.0\]"),
    ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, r"tensor a has the shape \[True\]"),
    ({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}, "tensor a has the shape"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}}, "tensor a has the place"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, "tensor a has the place"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, "tensor a has the place"),
    (b"[" * 50_000, "nested more than"),
]


@pytest.mark.parametrize(("header", "reason"), HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header, reason):
    path = write(tmp_path / "model.safetensors", header, bytes(4))
    with pytest.raises(CheckpointError, match=f"the header of .* is damaged .*{reason}"):
        read_header(path)


def test_an_index_decides_where_a_whole_file_lies_beside_its_shards(saved):
    state, folder = saved
    in_shards(folder, halves(state))
    save_file({name: tensor + 1 for name, tensor in state.items()}, folder / f"{STEM}.safetensors")
    assert torch.equal(Layered.from_pretrained(folder).layers[0].weight, state["layers.0.weight"])
    names = [path.name for path in folder.iterdir()]
    assert f"{STEM}.safetensors" not in choose_files(names, None) and len(choose_files(names, None)) == 3


MAPS = {
    "in no shard": lambda true, names: true | {"stranger": names[0]},
    "in another shard": lambda true, names: true | {"count": names[1]},
    "not listed": lambda true, names: {name: file for name, file in true.items() if name != "count"},
}


@pytest.mark.parametrize("weight_map", MAPS.values(), ids=MAPS)
def test_shards_that_do_not_hold_what_their_index_says_are_refused(saved, weight_map):
    state, folder = saved
    in_shards(folder, halves(state), weight_map)
    with pytest.raises(CheckpointError, match="are not those of their index: 1 tensors lie elsewhere"):
        Layered.from_pretrained(folder)


def test_a_tensor_in_two_shards_is_refused(saved):
    state, folder = saved
    first, second = halves(state)
    in_shards(folder, [first, second | {"count": state["count"]}])
    with pytest.raises(CheckpointError, match=r"tensor count is in .* and in"):
        Layered.from_pretrained(folder)


OUTSIDE = ["", ".", "..", "../a", "a/b", "/a", "a\\b", "C:", "C:a", "a\0b", "a\nb", "a.", "..  ", "x" * 256, "\u202ea"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_in_a_file_leads_nowhere_else(tmp_path, name):
    assert not is_single_part(name)
    (tmp_path / "model_index.json").write_text(json.dumps({name: ["diffusers", "AutoencoderKLLTXVideo"]}))
    for read in (read_model_index, inspect_checkpoint):
        with pytest.raises(CheckpointError, match="not the name of a folder"):
            read(tmp_path)
    (tmp_path / "model_index.json").unlink()
    (tmp_path / f"{STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="names files outside its folder"):
        open_weights(tmp_path)


@pytest.mark.parametrize("name", ["vae", "text_encoder_2", "model-00001-of-00002.safetensors", "größe", ".hidden"])
def test_other_names_are_names(name):
    assert is_single_part(name)


def test_an_index_of_safe_files_names_no_others(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.bin")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.bin"}}')
    with pytest.raises(CheckpointError, match=r"names files that are no \.safetensors"):
        open_weights(tmp_path)


def test_a_bin_file_that_is_packed_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(10_000_000)}, tmp_path / "plain.bin")
    packed = zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.bin") as plain, packed:
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    assert (tmp_path / "pytorch_model.bin").stat().st_size < 100_000
    with pytest.raises(CheckpointError, match=r"is packed: 40,.* bytes would come out of it"):
        open_weights(tmp_path)


def test_a_bin_file_can_not_claim_more_numbers_than_it_has(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="has fewer numbers than it says for a"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([torch.zeros(1)], "holds a list instead of named tensors"),
        ({"a": 3}, "holds more than tensors: a"),
        ({3: torch.zeros(1)}, "holds more than tensors: 3"),
        ({"a": torch.zeros(2).to_sparse()}, "holds more than tensors: a"),
        ({"a": torch.empty(2, device="meta")}, "holds more than tensors: a"),
    ],
)
def test_a_bin_file_holds_plain_tensors_by_name(tmp_path, state, reason):
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=reason):
        open_weights(tmp_path)


def test_a_network_has_no_more_tensors_than_its_files_explain(saved):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"depth": 1_000_000}))
    with pytest.raises(ValueError, match=r"config\.json describes no Layered .* more than 1,020 tensors"):
        Layered.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="more than 20,000 tensors"):
        build_empty(lambda: Layered(depth=1_000_000))


@pytest.mark.parametrize("make", [lambda: torch.arange(10**10), lambda: torch.zeros(10**5, 10**5)])
def test_no_table_is_made_that_no_machine_holds(make):
    with pytest.raises(CheckpointError, match=r"a table of 10,000,000,000 numbers"):
        build_empty(lambda: make())


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": -4}, "dim must be at least 1, got -4"),
        ({"depth": "2"}, "depth must be a whole number, got '2'"),
        ({"depth": 10**9}, "depth can be 1,000,000 at most"),
    ],
)
def test_an_impossible_entry_of_a_network_is_named(saved, entries, reason):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))
    with pytest.raises(ValueError, match=rf"config\.json describes no Layered that can be built: {reason}"):
        Layered.from_pretrained(folder)
