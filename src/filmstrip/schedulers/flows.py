"""Flow matching among the solvers: what its configs mean to another one, and which solvers a network can be given."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from filmstrip.json_files import shown
from filmstrip.schedulers.schedule import calculate_shift

if TYPE_CHECKING:
    from filmstrip.schedulers.base import Scheduler


def between_flows(
    given: dict[str, Any], config: Mapping[str, Any], accepted: Collection[str], name: str
) -> dict[str, Any]:
    """What a config says to a solver, if one of them or both are of flow matching.

    A config of flow matching alone has a `shift`; solvers that know diffusion too call it `flow_shift`, and say by
    `use_flow_sigmas` which of both they follow.

    Args:
        given: what was chosen in that config.
        accepted: arguments of the solver with this name.
    """
    if "sigma_data" in config and "sigma_data" not in accepted and "beta_schedule" not in given:
        given.setdefault("sigma_data", config["sigma_data"])  # of a network that was preconditioned with it
    if "shift" in config and "shift" not in accepted:
        given.setdefault("shift", config["shift"])  # also where it is a default: it tells what the config is of
    if "shift" in given and "use_flow_sigmas" in accepted and "use_flow_sigmas" not in given:
        if given.get("invert_sigmas"):
            raise ValueError(f"{name} has no invert_sigmas, which this config sets; use a scheduler that has.")
        given |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": given["shift"]}
    elif "shift" in given and given.get("use_flow_sigmas") and "use_flow_sigmas" in accepted:
        given.setdefault("prediction_type", "flow_prediction")
    elif "use_flow_sigmas" not in accepted and given.get("prediction_type") == "flow_prediction":
        del given["prediction_type"]  # others have no such name; the shift tells it to the next one
        given.setdefault("shift", given.get("flow_shift", 1.0))
    if "shift" in accepted and given.get("use_flow_sigmas") and given.get("flow_shift") is not None:
        given["shift"] = given["flow_shift"]
    return given


def solvers_for(*, flow: bool) -> dict[str, type[Scheduler]]:
    """The solvers by name that networks of flow matching, or those of diffusion, can be given."""
    from filmstrip.schedulers.base import TrainedScheduler  # which imports this module

    return {
        name: one
        for name, one in _solvers().items()
        if (one.knows_flows if flow else issubclass(one, TrainedScheduler))
    }


def _solvers() -> dict[str, type[Scheduler]]:
    """All that make videos of noise."""
    from filmstrip import schedulers  # which imports this module
    from filmstrip.schedulers.base import Scheduler

    kinds = {
        name: one for name, one in vars(schedulers).items() if isinstance(one, type) and issubclass(one, Scheduler)
    }
    return {name: one for name, one in kinds.items() if one is not Scheduler and not one.makes_noise}


def check_solver(scheduler: Scheduler, *, flow: bool) -> None:
    """See that a network of flow matching, or one of diffusion, can be followed.

    Raises:
        ValueError: it can't; says what to set, or which solvers can.
    """
    name, fitting = type(scheduler).__name__, f"use {', '.join(solvers_for(flow=flow))}"
    if flow and not scheduler.is_flow:
        has = "has use_flow_sigmas=False" if scheduler.knows_flows else "knows no flows"
        ways = "set use_flow_sigmas=True and prediction_type='flow_prediction', or " if scheduler.knows_flows else ""
        raise ValueError(f"{name} {has}, and this network was trained on a flow; {ways}{fitting}.")
    if scheduler.is_flow and not flow:
        raise ValueError(f"{name} follows a flow, and this network was trained to predict noise or v; {fitting}.")
    said = scheduler.config.foreign() | scheduler.config.chosen()
    if scheduler.is_preconditioned and "beta_schedule" in said:
        raise ValueError(f"{name} is for networks with the preconditioning of EDM, and this one has none; {fitting}.")
    if not scheduler.is_preconditioned and "sigma_data" in said and "beta_schedule" not in said:
        others = ", ".join(of_name for of_name, one in _solvers().items() if one.is_preconditioned)
        raise ValueError(f"{name} knows no preconditioning of EDM, which this network was trained with; use {others}.")
    if flow != (scheduler.predicts == "flow_prediction"):
        wanted = "'flow_prediction'" if flow else "that of the checkpoint's scheduler"
        raise ValueError(f"prediction_type must be {wanted} for this network, got {shown(scheduler.predicts)}.")


def started(scheduler: Scheduler, **given: Any) -> Any:
    """A run with these settings.

    Raises:
        ValueError: one of them is none of the scheduler's; says which solvers have it.
    """
    for name in given:
        if name not in inspect.signature(scheduler.start).parameters:
            others = solvers_for(flow=scheduler.is_flow).items()
            takes = [other for other, one in others if name in inspect.signature(one.start).parameters]
            ways = f"drop it, or use {', '.join(takes)}" if takes else "drop it"
            raise ValueError(f"{name} has no effect with {type(scheduler).__name__}; {ways}.")
    return scheduler.start(**given)


def mu_for(scheduler: Scheduler, num_tokens: int) -> float | None:
    """The shift of a run with so many tokens, if the settings ask for one, by the line that they describe.

    That line is told by configs of flow matching, from which solvers are made that have no such settings themselves.
    """
    if not scheduler.config.get("use_dynamic_shifting"):
        return None
    line = scheduler.config.foreign() | dict(scheduler.config)
    return calculate_shift(
        num_tokens,
        line.get("base_image_seq_len", 256),
        line.get("max_image_seq_len", 4096),
        line.get("base_shift", 0.5),
        line.get("max_shift", 1.15),
    )
