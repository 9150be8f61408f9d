"""Networks keep their weights on the way to a folder and back, and nothing is loaded silently wrong."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from filmstrip.checkpoints import CheckpointError
from filmstrip.network import Model

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Tiny(Model):
    renamed_keys = ((r"^old\.", "new."), (r"query", "to_q"))
    ignored_keys = (r"position_ids$",)
    keep_in_fp32 = (r"^norm\.",)

    def __init__(self, dim: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.to_q = nn.Linear(dim, dim)
        self.new = nn.Sequential(*(nn.Linear(dim, dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.scale = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("table", torch.arange(dim, dtype=torch.float32) / 10, persistent=False)

    def forward(self, hidden_states):
        return self.norm(self.new(self.to_q(hidden_states) + self.table - self.mean)) + self.scale.sum(0)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = Tiny(dim=6)
    model.mean.normal_()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def rewrite(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    state = {name: tensor.clone() for name, tensor in state.items()}
    (folder / WEIGHTS).unlink()
    save_file(state, folder / WEIGHTS)


def test_a_saved_network_comes_back_equal(saved):
    model, folder = saved
    loaded = Tiny.from_pretrained(folder)
    inputs = torch.randn(3, 6)
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded(inputs), model(inputs))
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))


def test_the_file_never_changes_when_loaded_weights_are_trained(saved):
    _, folder = saved
    before = (folder / WEIGHTS).read_bytes()
    loaded = Tiny.from_pretrained(folder).train()
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded(torch.randn(2, 6)).square().sum().backward()
    weight = loaded.to_q.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(loaded.to_q.weight, weight)
    assert (folder / WEIGHTS).read_bytes() == before


def test_a_network_can_be_saved_over_its_own_files(saved):
    model, folder = saved
    loaded = Tiny.from_pretrained(folder)
    loaded.save_pretrained(folder)
    assert torch.equal(loaded.to_q.weight, model.to_q.weight)
    assert torch.equal(Tiny.from_pretrained(folder).to_q.weight, model.to_q.weight)


def test_old_names_are_understood_and_ignored_tensors_left_out(saved):
    model, folder = saved

    def as_old(state):
        for name in list(state):
            old = name.replace("new.", "old.").replace("to_q", "query")
            state[old] = state.pop(name)
        state["position_ids"] = torch.arange(3)

    rewrite(folder, as_old)
    assert torch.equal(Tiny.from_pretrained(folder).new[1].weight, model.new[1].weight)


def test_missing_and_left_over_tensors_are_named(saved):
    _, folder = saved
    rewrite(folder, lambda state: [state.pop("new.0.bias"), state.update(stranger=torch.zeros(1))])
    with pytest.raises(
        CheckpointError, match=r"Tiny: 1 tensors .* missing \(new\.0\.bias\) and 1 .* left over \(stranger"
    ):
        Tiny.from_pretrained(folder)


def test_a_wrong_shape_is_named_with_both_shapes(saved):
    _, folder = saved
    rewrite(folder, lambda state: state.update({"to_q.weight": torch.zeros(6, 5)}))
    with pytest.raises(CheckpointError, match=r"to_q\.weight is 6x5 where the model has 6x6"):
        Tiny.from_pretrained(folder)


def test_without_a_dtype_the_file_keeps_its_own(saved):
    model, folder = saved
    model.to(torch.bfloat16).save_pretrained(folder)
    assert Tiny.from_pretrained(folder).dtype == torch.bfloat16
    assert Tiny.from_pretrained(folder, torch_dtype="auto").dtype == torch.bfloat16


def test_parameters_to_keep_stay_in_float32_when_the_rest_is_cast(saved):
    model, folder = saved
    loaded = Tiny.from_pretrained(folder, dtype="bf16")
    assert loaded.to_q.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.to_q.weight, model.to_q.weight.bfloat16())
    assert torch.equal(loaded.norm.weight, model.norm.weight) and loaded.norm.weight.dtype == torch.float32


def test_float16_files_run_in_bfloat16_on_a_cpu_said_once(saved, caplog):
    from filmstrip.checkpoints import dtypes

    model, folder = saved
    model.half().save_pretrained(folder)
    dtypes._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        loaded = [Tiny.from_pretrained(folder, device="cpu") for _ in range(2)]
    assert {network.dtype for network in loaded} == {torch.bfloat16}
    assert len([record for record in caplog.records if "float16" in record.message]) == 1
    assert Tiny.from_pretrained(folder, torch_dtype=torch.float16).dtype == torch.float16


def test_a_large_network_is_split_over_files_with_an_index(saved, tmp_path):
    model, _ = saved
    folder = tmp_path / "sharded"
    model.save_pretrained(folder, max_shard_size=200)
    index = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert set(index["weight_map"]) == set(model.state_dict())
    assert torch.equal(Tiny.from_pretrained(folder).scale, model.scale)


def test_saving_whole_removes_the_shards_of_an_earlier_save(saved):
    model, folder = saved
    model.save_pretrained(folder, max_shard_size=200)
    assert not (folder / WEIGHTS).exists()
    model.save_pretrained(folder, variant="fp16")
    model.save_pretrained(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"}


def test_a_save_that_fails_leaves_the_old_files_and_no_others(saved, monkeypatch):
    from filmstrip.checkpoints import saving

    model, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(saving, "_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save_pretrained(folder, max_shard_size=200)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_load_draws_no_random_numbers(saved):
    _, folder = saved
    before = torch.get_rng_state()
    Tiny.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_load_does_not_import_the_parts_of_torch_that_compute_shapes(saved):
    """They cost most of a second, which is more than the load itself."""
    _, folder = saved
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_model import Tiny\n"
        "before = set(sys.modules)\n"
        "Tiny.from_pretrained(sys.argv[2])\n"
        "assert not [name for name in sys.modules if name.startswith('torch.') and name not in before]"
    )
    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(folder)], check=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory in use from Linux")
def test_a_load_needs_no_memory_beyond_the_result(tmp_path):
    """Of a cast, one tensor at a time; of a load as stored, nothing until the weights are used."""
    Tiny(dim=1024, depth=40).save_pretrained(tmp_path)  # 172 MB
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_model import Tiny, resident_megabytes\n"
        "Tiny.from_pretrained(sys.argv[2])\n"
        "before = resident_megabytes('VmRSS')\n"
        "mapped = Tiny.from_pretrained(sys.argv[2])\n"
        "print(resident_megabytes('VmHWM') - before)\n"
        "cast = Tiny.from_pretrained(sys.argv[2], dtype='bf16')\n"
        "print(resident_megabytes('VmHWM') - before)"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    mapped, cast = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert mapped < 20
    assert cast < 86 + 20


def resident_megabytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000
