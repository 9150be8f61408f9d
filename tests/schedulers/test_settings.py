"""Settings as data: what constructors take, record, refuse and tell of themselves."""

import inspect
from dataclasses import KW_ONLY, dataclass

import pytest

import filmstrip
from filmstrip.configuration import Configured
from filmstrip.registry import PUBLIC
from filmstrip.schedulers.settings import Clipped, Spaced, Spacing, Trained, setting, taking

ALL = sorted(name for name in PUBLIC if name.endswith("Scheduler"))


@dataclass(frozen=True, eq=False)
class KettleSettings(Clipped, Spaced, Trained):
    beta_end: float = 0.5
    _: KW_ONLY
    timestep_spacing: Spacing = "leading"
    litres: float = setting("how much it holds.", 1.5)

    foreign = {"timestep_spacing": ("odd",)}  # noqa: RUF012  (the least that a test needs)


class Kettle(Configured):
    @taking(KettleSettings)
    def __init__(self, settings):
        self.settings, self.spacing = settings, settings.own("timestep_spacing")


def test_a_constructor_takes_one_by_one_what_it_is_written_for_together():
    kettle = Kettle(500, litres=2.0)
    assert (kettle.settings.num_train_timesteps, kettle.settings.litres) == (500, 2.0)
    assert kettle.config.chosen() == {"num_train_timesteps": 500, "litres": 2.0}
    assert kettle.config.beta_end == 0.5 and kettle.config.clip_sample_range == 1.0


def test_another_default_keeps_a_settings_place_and_sentence():
    names = list(inspect.signature(Kettle).parameters)
    assert names[:5] == ["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"]
    told = inspect.getdoc(Kettle.__init__)
    assert "    beta_end: variance of the noise that the last one adds." in told
    assert "    litres: how much it holds." in told


def test_an_unknown_setting_or_name_is_refused():
    with pytest.raises(TypeError, match=r"^Kettle.__init__\(\) got an unexpected keyword argument 'liters'"):
        Kettle(liters=2.0)
    with pytest.raises(TypeError, match=r"^Kettle.__init__\(\) takes from 1 to 6 positional arguments"):
        Kettle(1, 2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match=r"^timestep_spacing must be one of linspace, leading, trailing, got 'lead'\."):
        Kettle(timestep_spacing="lead")


def test_a_name_of_another_solver_is_recorded_and_stands_for_the_default():
    kettle = Kettle(timestep_spacing="odd")
    assert (kettle.config.timestep_spacing, kettle.spacing) == ("odd", "leading")


@pytest.mark.parametrize("name", ALL)
def test_every_scheduler_tells_each_of_its_settings(name):
    kind = getattr(filmstrip, name)
    told = inspect.getdoc(kind.__init__).splitlines()
    named = [line.strip().partition(": ")[0] for line in told if line.startswith("    ") and line[4] != " "]
    assert named == list(inspect.signature(kind).parameters)
    assert named[0] == ("sigma_min" if name.startswith("EDM") else "num_train_timesteps")
