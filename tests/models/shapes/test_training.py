"""The training of the model in the box, on a few steps."""

import random

import pytest
import torch
from torch import nn

from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel
from training.shapes import autoencoder_training, clips
from training.shapes.latents import Examples
from training.shapes.muon import orthogonalised
from training.shapes.networks import build_autoencoder
from training.shapes.training import Trainee, learning_rate_factor
from training.shapes.transformer_training import add_noise, grid


def trainee(seed=0, num_steps=6):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
    generator = torch.Generator().manual_seed(seed)
    return Trainee({"network": network}, random.Random(seed), generator, num_steps, 0.9, 0.02, 1e-3)


def take_steps(made, count):
    for _ in range(count):
        inputs = torch.randn(4, 8, generator=made.generator) * made.rng.random()
        made.update(made.networks["network"](inputs).square().mean())
    return made


def test_a_resumed_training_goes_on_as_if_never_stopped(tmp_path):
    whole = take_steps(trainee(), 6)
    take_steps(trainee(), 3).save(tmp_path / "state.pt")
    resumed = trainee(seed=1)
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 3
    take_steps(resumed, 3)
    for key, value in whole.networks["network"].state_dict().items():
        torch.testing.assert_close(resumed.networks["network"].state_dict()[key], value, rtol=0, atol=0)
        torch.testing.assert_close(resumed.averages["network"][key], whole.averages["network"][key], rtol=0, atol=0)


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    take_steps(trainee(), 1).save(path)

    def fail(state, partial):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        take_steps(trainee(), 2).save(path)
    monkeypatch.undo()
    again = trainee()
    again.resume(path)
    assert again.step == 1


def test_the_learning_rate_rises_stays_and_falls_to_nought():
    factors = [learning_rate_factor(step, 1000, warmup=10, decay=0.5) for step in (0, 9, 300, 500, 750, 1000)]
    assert factors == pytest.approx([0.1, 1, 1, 1, 0.5, 0])


def test_muon_makes_all_singular_values_alike():
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    matrix[:12] *= 30
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.6 and values.max() < 1.3


def test_an_untrained_autoencoder_passes_gradients_to_every_parameter_that_the_mean_needs():
    autoencoder = build_autoencoder()
    video = clips.draw(clips.COMBINATIONS[:1], random.Random(0), num_frames=5)
    reconstructed = autoencoder_training.reconstruct(autoencoder, video, torch.Generator().manual_seed(0))
    autoencoder_training.loss_of(reconstructed, video).backward()
    missing = [name for name, parameter in autoencoder.named_parameters() if parameter.grad is None]
    assert not missing


def examples(batch=3):
    latents = torch.randn(batch, 48, 5, 4, 4)
    return Examples(latents, torch.randn(batch, 48, 1, 4, 4), torch.tensor([16] * batch), torch.zeros(batch))


def test_tokens_stand_where_the_text_pipeline_puts_them():
    network = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=1,
        attention_head_dim=12,
        cross_attention_dim=12,
        num_layers=1,
    )
    expected = network.grid_coordinates((5, 4, 4), (4 / 8, 16, 16), torch.device("cpu"))
    torch.testing.assert_close(grid(torch.arange(5)[None] * 4.0), expected)


@pytest.mark.parametrize("seed", range(12))
def test_given_tokens_are_clean_and_do_not_count(seed):
    noised = add_noise(examples(), torch.Generator().manual_seed(seed), random.Random(seed))
    if noised.timesteps.dim() == 1:
        assert bool((noised.counts == 1).all())
        return
    assert torch.equal(noised.counts == 0, noised.timesteps == 0)
    assert noised.tokens.shape[1] == noised.coordinates.shape[2] == noised.counts.shape[1]


def test_noised_tokens_lie_on_the_line_from_clean_to_noise():
    rng = random.Random(3)
    assert rng.random() < 0.45  # text to video
    batch = examples()
    noised = add_noise(batch, torch.Generator().manual_seed(0), random.Random(3))
    clean = batch.latents.flatten(2).transpose(1, 2)
    level = noised.timesteps[:, None, None] / 1000
    torch.testing.assert_close(noised.tokens - level * noised.velocity, clean)
