"""`filmstrip inspect`, `models` and `env`: what there is, read from headers and tables."""

import json
import shutil
from importlib.metadata import version

import pytest

from filmstrip.registry import families
from tests.cli.tiny_checkpoint import tiny_pipeline


@pytest.fixture
def described(filmstrip):
    def run(name):
        result = filmstrip("inspect", name, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


def test_a_checkpoint_is_described(described, checkpoint):
    content = described(checkpoint)
    networks = tiny_pipeline().networks
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    rows = {row["name"]: row for row in content["components"]}
    assert content["family"] == "LTX-Video"
    assert content["pipeline"] == "LTXPipeline"
    assert {name: rows[name]["parameters"] for name in counts} == counts
    assert rows["transformer"]["bytes_per_dtype"] == {"float32": 4 * counts["transformer"]}
    # The file of the autoencoder also holds the mean and deviation of its 8 latent channels.
    assert rows["vae"]["bytes_per_dtype"] == {"float32": 4 * (counts["vae"] + 16)}
    assert rows["vae"]["class"] == "AutoencoderKLLTXVideo"
    assert rows["scheduler"]["weights"] == rows["tokenizer"]["weights"] == "none"
    assert content["rules"]["size_multiple"] == 8
    assert (content["rules"]["frame_stride"], content["rules"]["frame_counts"]) == (4, "4k + 1")
    assert content["defaults"]["num_frames"] == 9
    assert list(content["tasks"]) == ["text-to-video", "image-to-video", "video-to-video"]  # there is no upsampler


def test_without_weights_the_parameters_are_counted_by_the_configs(filmstrip, described, checkpoint, outline):
    with_weights, without = described(checkpoint), described(outline)
    for one, other in zip(with_weights["components"], without["components"], strict=True):
        assert other["parameters"] == one["parameters"]
        assert (one["weights"], other["weights"]) in {("here", "missing"), ("none", "none")}
    assert "not there" in filmstrip("inspect", outline).stdout
    assert "not there" not in filmstrip("inspect", checkpoint).stdout


def test_a_single_component_is_described(described, outline):
    content = described(outline / "vae")
    assert content["pipeline"] is None
    assert content["components"][0]["class"] == "AutoencoderKLLTXVideo"
    assert content["parameters"] > 0


@pytest.mark.parametrize(
    ("name", "text"),
    [("README.md", "---\nlicense: openrail\n---\n# Model\n"), ("LICENSE", "openrail\n\nText.")],
)
def test_the_licence_is_the_repositorys(described, outline, tmp_path, name, text):
    folder = shutil.copytree(outline, tmp_path / "licensed")
    (folder / name).write_text(text)
    assert described(folder)["licence"] == "openrail"


def test_the_built_in_model_has_our_licence(filmstrip, outline, monkeypatch):
    monkeypatch.setattr("filmstrip.checkpoints.locate.builtin_folder", lambda name: outline)
    content = json.loads(filmstrip("inspect", "shapes", "--json").stdout)
    assert content["licence"] == "Apache-2.0"
    assert content["family"] == families()[0].title


def test_the_families_are_listed(filmstrip):
    said = filmstrip("models").stdout
    content = json.loads(filmstrip("models", "--json").stdout)
    for family, row in zip(families(), content["families"], strict=True):
        assert row["pipelines"] == family.pipelines
        for words in (family.title, *family.pipelines, *family.pipelines.values(), *family.checkpoints):
            assert words in said


def test_the_machine_is_described(filmstrip):
    import torch

    number = version("torch")  # torch.__version__ may add for which accelerator it was built
    content = json.loads(filmstrip("env", "--json").stdout)
    assert content["versions"]["torch"] == number
    assert content["devices"][-1]["name"] == "cpu"
    assert "float32" in content["devices"][-1]["dtypes"]
    assert content["threads"] == torch.get_num_threads()
    said = filmstrip("env").stdout
    assert number in said
    assert content["cache"] in said


def test_a_model_that_knows_few_words_says_which(filmstrip):
    assert "shape: circle, square, triangle, star" in filmstrip("inspect", "shapes").stdout
    content = json.loads(filmstrip("inspect", "shapes", "--json").stdout)
    assert content["understands"]["background"] == ["black", "gray", "grey", "navy", "brown"]
