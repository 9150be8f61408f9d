"""What `callback_on_step_end` sees, and what it can do."""

import pytest
import torch

from tests.contract.registered import CASES
from tests.contract.runs import call, differs, frames_of, over, over_those_with, request, shared, video

with_callback = over_those_with("callback_on_step_end", "num_inference_steps")
with_prompt_embeds = over(
    case
    for case in CASES
    if case.takes("callback_on_step_end", "prompt_embeds")
    and "prompt_embeds" in case.pipeline_class._callback_tensor_inputs
)


@with_callback
def test_a_callback_sees_every_step_and_its_latents_are_used(case):
    seen = []

    def note(pipeline, step, timestep, tensors):
        seen.append((step, float(timestep), tensors["latents"].clone()))
        assert pipeline.num_timesteps == 3 + case.extra_steps
        return tensors

    plain = call(case, num_inference_steps=3)
    noted = call(case, num_inference_steps=3, callback_on_step_end=note)
    assert torch.equal(frames_of(noted), frames_of(plain))
    assert [step for step, _, _ in seen] == list(range(3 + case.extra_steps))
    timesteps = [timestep for _, timestep, _ in seen]
    assert timesteps[:2] == sorted(timesteps[:2], reverse=True) and timesteps[-1] == min(timesteps)
    assert differs(seen[0][2], seen[1][2])

    for last in (0, 2 + case.extra_steps):
        replaced = video(
            case,
            num_inference_steps=3,
            callback_on_step_end=lambda _, step, __, tensors, last=last: (
                {"latents": tensors["latents"] * 0.5} if step == last else None
            ),
        )
        assert differs(replaced, frames_of(plain))


@with_callback
def test_what_a_callback_puts_into_the_dictionary_it_is_given_is_used(case):
    def halve(_pipeline, _step, _timestep, tensors):
        tensors["latents"] = tensors["latents"] * 0.5
        return tensors

    def halved(_pipeline, _step, _timestep, tensors):
        return {"latents": tensors["latents"] * 0.5}

    changed = video(case, callback_on_step_end=halve)
    assert differs(changed, video(case))
    assert torch.equal(changed, video(case, callback_on_step_end=halved))


@with_callback
def test_the_last_latents_a_callback_sees_are_those_of_the_output(case):
    seen = []
    arguments = {"callback_on_step_end": lambda _, __, ___, tensors: seen.append(tensors["latents"])}
    latents = frames_of(call(case, output_type="latent", **arguments))
    assert seen[-1].numel() == latents.numel()
    torch.testing.assert_close(seen[-1].double().norm(), latents.double().norm())


@with_callback
def test_a_callback_is_given_the_tensors_it_asks_for(case):
    names = case.pipeline_class._callback_tensor_inputs
    given = []
    arguments = {"callback_on_step_end": lambda _, __, ___, tensors: given.append(tensors)}
    call(case, callback_on_step_end_tensor_inputs=list(names), **arguments)
    assert all(set(tensors) == set(names) for tensors in given)
    assert all(isinstance(tensor, torch.Tensor) for tensors in given for tensor in tensors.values())
    call(case, callback_on_step_end_tensor_inputs=[], **arguments)
    assert given[-1] == {}


@with_callback
def test_a_tensor_that_a_run_has_not_is_none_for_a_callback(case):
    given = []
    names = case.pipeline_class._callback_tensor_inputs

    def keep(_pipeline, _step, _timestep, tensors):
        given.append(dict(tensors))
        return tensors

    alone = {case.guidance: 1.0}
    unguided = video(case, **alone)
    arguments = {"callback_on_step_end": keep, "callback_on_step_end_tensor_inputs": list(names)}
    assert torch.equal(video(case, **alone, **arguments), unguided)
    assert all(tensors[name] is None for tensors in given for name in names if name.startswith("negative"))


@with_callback
def test_unknown_tensor_inputs_are_refused(case):
    with pytest.raises(ValueError, match=r"knows latents.* got 'nonsense'"):
        request(case, callback_on_step_end=print, callback_on_step_end_tensor_inputs=["latents", "nonsense"])


@with_callback
def test_a_tensor_that_no_step_takes_is_refused(case):
    with pytest.raises(ValueError, match="callback_on_step_end returned 'nonsense'"):
        call(case, callback_on_step_end=lambda *_: {"nonsense": torch.zeros(1)})


@with_prompt_embeds
def test_prompts_that_a_callback_replaces_are_used(case):
    plain = video(case, num_inference_steps=3)

    def replace(step_to_replace):
        return video(
            case,
            num_inference_steps=3,
            callback_on_step_end=lambda _, step, __, tensors: (
                {"prompt_embeds": tensors["prompt_embeds"] * -2} if step == step_to_replace else {}
            ),
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )

    assert differs(replace(0), plain)
    assert torch.equal(replace(2 + case.extra_steps), plain), "after the last step there is nothing left to guide"


@with_callback
def test_a_callback_can_stop_the_denoising(case):
    seen = []

    def stop(pipeline, step, _timestep, tensors):
        seen.append(tensors["latents"].clone())
        pipeline._interrupt = step == 1
        return {}

    frames = video(case, num_inference_steps=4, callback_on_step_end=stop)
    assert len(seen) == 2
    assert differs(frames, video(case, num_inference_steps=4))
    assert not shared(case.name).__dict__.get("_interrupt", False), "stopping one run must not stop the next"
    assert frames.shape == video(case).shape


@with_callback
def test_a_callback_sees_the_pipeline(case):
    pipeline = shared(case.name)

    def look(seen, *_):
        assert seen.scheduler is pipeline.scheduler
        assert seen.guidance_scale == 2.0
        assert seen.do_classifier_free_guidance

    call(case, **{case.guidance: 2.0}, callback_on_step_end=look)


@over_those_with("callback", "callback_steps")
def test_an_old_callback_is_called_at_every_so_many_steps(case):
    seen = []
    plain = video(case)
    noted = video(case, callback=lambda *given: seen.append(given), callback_steps=2)
    assert torch.equal(noted, plain)
    assert [step for step, _, _ in seen] == list(range(0, case.call["num_inference_steps"] + case.extra_steps, 2))
    assert all(isinstance(latents, torch.Tensor) for _, _, latents in seen)
