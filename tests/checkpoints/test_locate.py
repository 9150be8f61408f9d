"""Names of checkpoints lead to folders, and a wrong one to a sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from filmstrip import registry
from filmstrip.checkpoints import CheckpointError, find_checkpoint, inspect_checkpoint, locate
from filmstrip.checkpoints import hub as hub_module
from filmstrip.checkpoints.hub import component_files, revision_of

INDEX = '{"_class_name": "LTXPipeline", "vae": ["diffusers", "AutoencoderKLLTXVideo"], "scheduler": [null, null]}'
LISTING = [
    "README.md",
    "ltx-video-2b.safetensors",
    "media/example.gif",
    "model_index.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
]


@pytest.fixture
def cache(tmp_path):
    """The hub's cache with one repository, as a download leaves it."""
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    (snapshot / "vae").mkdir(parents=True)
    (snapshot / "model_index.json").write_text(INDEX)
    (snapshot / "vae" / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    return tmp_path / "hub", snapshot


@pytest.fixture
def hub(monkeypatch, cache):
    """A hub that holds `LISTING`; what was asked of it is in the list."""
    asked = []

    def download(repo_id, **how):
        asked.append(how["allow_patterns"])
        return str(cache[1])

    monkeypatch.setattr("filmstrip.checkpoints.hub._hub_is_offline", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repo_id, **how: LISTING)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_a_folder_is_its_own_checkpoint_and_asks_no_hub(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find_checkpoint(cache[1]) == cache[1]
    assert find_checkpoint(str(cache[1]), subfolder="vae") == cache[1] / "vae"


def test_a_folder_that_is_no_checkpoint_says_what_was_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"not a checkpoint: it has no model_index\.json .* no config\.json"):
        find_checkpoint(tmp_path)


def test_an_unknown_component_is_told_the_known_ones(cache):
    with pytest.raises(CheckpointError, match="no component 'transformer'; it has vae"):
        find_checkpoint(cache[1], subfolder="transformer")


@pytest.mark.parametrize("name", ["shapse", "shape"])
def test_a_near_miss_of_a_built_in_name_gets_a_suggestion(name):
    with pytest.raises(CheckpointError, match="did you mean 'shapes'"):
        find_checkpoint(name)


def test_a_name_of_neither_kind_says_so():
    with pytest.raises(CheckpointError, match="no folder '/no/such/folder', and it is not a hub name"):
        find_checkpoint("/no/such/folder")


def test_a_file_is_not_taken_for_a_checkpoint(cache):
    with pytest.raises(CheckpointError, match="is a file"):
        find_checkpoint(cache[1] / "model_index.json")


def test_a_built_in_name_is_the_folder_in_its_package(tmp_path, monkeypatch):
    weights = tmp_path / "boxed_model" / "weights"
    weights.mkdir(parents=True)
    (weights / "model_index.json").write_text(INDEX)
    (weights.parent / "__init__.py").write_text("raise RuntimeError('finding weights imports nothing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.BUILTIN_MODELS.own, "boxed", "boxed_model")
    assert find_checkpoint("boxed") == weights


def test_a_folder_that_only_has_a_built_in_name_does_not_hide_the_model(tmp_path, monkeypatch):
    (tmp_path / "shapes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "builtin_folder", lambda name: tmp_path / "package")
    assert locate.local_folder("shapes") == tmp_path / "package"
    (tmp_path / "shapes" / "model_index.json").write_text(INDEX)
    assert locate.local_folder("shapes") == Path("shapes")


def test_the_cache_serves_a_hub_name_offline(cache):
    assert find_checkpoint("org/name", cache_dir=cache[0], local_files_only=True) == cache[1]
    assert find_checkpoint("org/name", cache_dir=cache[0], local_files_only=True, subfolder="vae").name == "vae"


def test_the_cache_serves_a_hub_name_when_the_hub_gives_no_answer(cache, monkeypatch):
    def refuse(self, repo_id, **how):
        raise ConnectionError("no route")

    monkeypatch.setattr("filmstrip.checkpoints.hub._hub_is_offline", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    assert find_checkpoint("org/name", cache_dir=cache[0]) == cache[1]
    assert inspect_checkpoint("org/name", cache_dir=cache[0]).pipeline_class == "LTXPipeline"
    with pytest.raises(CheckpointError, match="no route"):
        find_checkpoint("org/other", cache_dir=cache[0])


class ConnectError(Exception):
    """As the clients below the hub's have them, which are no OSErrors."""


def no_connection():
    raise ConnectError("[Errno -3] Temporary failure in name resolution")


def a_login_page():
    return json.loads("<html>Welcome to the hotel</html>")


@pytest.mark.parametrize("answer", [no_connection, a_login_page])
@pytest.mark.parametrize("call", ["list_repo_files", "snapshot_download"])
def test_whatever_the_hub_does_what_is_in_the_cache_serves_and_is_told(cache, monkeypatch, caplog, answer, call):
    def answer_online(*_, local_files_only=False, **__):
        return str(cache[1]) if local_files_only else answer()

    monkeypatch.setattr("filmstrip.checkpoints.hub._hub_is_offline", lambda: False)
    if call == "list_repo_files":
        monkeypatch.setattr(huggingface_hub.HfApi, call, lambda self, repo_id, **how: answer())
    else:
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repo_id, **how: LISTING)
        monkeypatch.setattr(huggingface_hub, call, answer_online)
    assert find_checkpoint("org/name", cache_dir=cache[0]) == cache[1]
    [record] = caplog.records
    assert record.levelname == "WARNING" and record.name.startswith("filmstrip")
    assert re.match(r"the hub could not be asked for org/name \(.*\); it is taken from the cache", record.message)
    if call == "list_repo_files":
        with pytest.raises(CheckpointError, match=r"could not be fetched from the hub .*; check the connection"):
            find_checkpoint("org/other", cache_dir=cache[0])


def test_a_snapshot_with_fewer_files_than_the_repository_serves_offline(cache):
    """Only what a pipeline needs is fetched; newer clients know the whole list of files, and miss the others."""
    tree = pytest.importorskip("huggingface_hub._tree_cache")
    entry = tree.TreeCacheEntry
    try:
        entries = {"media/example.gif": entry(size=1, blob_id="b" * 40)}
        tree.write_tree_cache(str(cache[0] / "models--org--name"), "a" * 40, entries)
    except TypeError:
        pytest.skip("this version of the client keeps its lists otherwise")
    assert find_checkpoint("org/name", cache_dir=cache[0], local_files_only=True) == cache[1]


def test_the_revision_that_was_used_can_be_found_out(cache):
    assert revision_of(cache[1]) == revision_of(str(cache[1] / "vae")) == "a" * 40
    assert revision_of(cache[0]) is None
    assert revision_of(cache[0] / "models--org--name" / "snapshots" / "main") is None


def test_messages_name_commands_that_there_are():
    said = "hf auth login"
    assert said in Path(hub_module.__file__).read_text()
    command = Path(sys.executable).with_name("hf")
    if not command.exists():
        pytest.skip("this version of the hub's client has no such command")
    assert subprocess.run([command, *said.split()[1:], "--help"], capture_output=True).returncode == 0


def test_what_is_not_in_the_cache_is_said_offline(cache):
    with pytest.raises(CheckpointError, match="'org/other' is not a folder here, nor in the hub's cache"):
        find_checkpoint("org/other", cache_dir=cache[0], local_files_only=True)


def test_a_pipeline_fetches_only_the_files_it_loads(hub):
    find_checkpoint("org/name")
    assert hub[0] == ["model_index.json"]
    assert hub[1] == ["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]


def test_a_component_that_the_caller_brings_is_not_fetched(hub):
    find_checkpoint("org/name", without=["vae"])
    assert hub[-1] == ["model_index.json"]


def test_a_variant_is_fetched_where_there_is_one(hub):
    find_checkpoint("org/name", variant="fp16")
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in hub[-1]
    assert "vae/diffusion_pytorch_model.safetensors" not in hub[-1]


def test_a_component_fetches_its_own_files(hub):
    find_checkpoint("org/name", subfolder="vae")
    assert hub == [["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]]


def test_shards_are_fetched_with_their_index_and_without_other_variants():
    shards = [f"t/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    other = [f"t/model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    listing = [*shards, *other, "t/model.safetensors.index.json", "t/model.safetensors.index.fp16.json"]
    assert set(component_files(listing, "t", None)) >= {*shards, "t/model.safetensors.index.json"}
    assert not set(component_files(listing, "t", None)) & set(other)
    assert set(component_files(listing, "t", "fp16")) >= {*other, "t/model.safetensors.index.fp16.json"}
    assert not set(component_files(listing, "t", "fp16")) & set(shards)


def answer(status):
    """As much of a response as the hub's errors look at, whichever client it uses."""
    return SimpleNamespace(status_code=status, headers={}, request=None, url="https://huggingface.co")


FAILURES = [
    (lambda: errors.RepositoryNotFoundError("gone", response=answer(404)), "neither a folder here nor a repository"),
    (lambda: errors.GatedRepoError("gated", response=answer(403)), "accept its terms"),
    (lambda: errors.RevisionNotFoundError("none", response=answer(404)), "no revision 'v9'"),
]


@pytest.mark.parametrize(("failure", "sentence"), FAILURES)
def test_a_refusal_of_the_hub_is_one_sentence(hub, monkeypatch, failure, sentence):
    def refuse(self, repo_id, **how):
        raise failure()

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    with pytest.raises(CheckpointError, match=sentence):
        find_checkpoint("org/name", revision="v9")


def test_a_repository_is_described_without_downloading_its_weights(hub, monkeypatch):
    def header(self, repo_id, filename, **how):
        tensors = {"weight": SimpleNamespace(dtype="BF16", shape=[3, 4])}
        return SimpleNamespace(tensors=tensors)

    monkeypatch.setattr(huggingface_hub.HfApi, "parse_safetensors_file_metadata", header)
    summary = inspect_checkpoint("org/name")
    assert summary.pipeline_class == "LTXPipeline"
    (vae,) = summary.components
    assert (vae.parameters, vae.bytes_per_dtype, vae.variants) == (12, {"bfloat16": 24}, ("fp16",))
    assert not any(name.endswith((".safetensors", ".bin")) for patterns in hub for name in patterns)
