"""A run that is cut off is finished from what was kept of it, bit for bit."""

import copy
import logging
import shutil
from functools import cache

import pytest
import torch

from filmstrip.assembly.runs import request_of
from filmstrip.generation.session import run
from filmstrip.memory.coding import coding_settings, smaller_ways
from filmstrip.resume.journal import FileJournal
from filmstrip.resume.unfinished import read_unfinished
from tests.contract.registered import CASES
from tests.contract.runs import (
    SEED,
    close,
    frames_of,
    fresh,
    over,
    over_all,
    over_those_with,
    request,
    seeded,
    shared,
    video,
)

with_callback = over_those_with("callback_on_step_end", "num_inference_steps")
STEPS = [case for case in CASES if case.takes("num_inference_steps")]
SOME, SOME_STEPS = CASES[::3], STEPS[::3]  # for what is the same in all


class CopyingJournal(FileJournal):
    """One that leaves a copy of each state of its file."""

    def _write(self):
        super()._write()
        self.copies = [*getattr(self, "copies", []), self.path.with_name(f"{len(getattr(self, 'copies', []))}.copy")]
        shutil.copy(self.path, self.copies[-1])


def snapshots(case, folder, every, **arguments):
    """Copies of the file that a run keeps, one for each state of it."""
    journal = CopyingJournal(folder / "kept", every)
    for _ in run(shared(case.name), request(case, **arguments), journal):
        pass
    return journal.copies


@cache
def another(case_name):
    """A pipeline of a case that is not the one which began."""
    return fresh(next(case for case in CASES if case.name == case_name))


def finished(case, path, **arguments):
    """The video that another pipeline makes of a kept file."""
    return frames_of(another(case.name).finish(path, **arguments))


def broken(case):
    """A pipeline of a case that can't decode."""
    pipeline = copy.copy(shared(case.name))
    pipeline.decode = lambda *_: (_ for _ in ()).throw(RuntimeError("broken"))
    return pipeline


@over_all
def test_finished_latents_are_decoded_from_their_file(case, tmp_path):
    [path] = snapshots(case, tmp_path, None)
    assert read_unfinished(path).is_denoised
    assert torch.equal(finished(case, path), video(case))
    assert not path.exists(), "the file is removed when the video is whole"


@over(STEPS)
def test_a_run_goes_on_from_every_step(case, tmp_path):
    arguments = {"num_inference_steps": 4}
    if case.takes("t0", "t1"):
        arguments |= {"t0": 0, "t1": 1}  # so that there are steps before the later frames begin
    whole = video(case, **arguments)
    copies = snapshots(case, tmp_path, 1, **arguments)
    assert len(copies) == 4 + case.extra_steps + 1
    assert [read_unfinished(path).is_denoised for path in copies] == [False] * (len(copies) - 1) + [True]
    for path in copies:
        assert torch.equal(finished(case, path), whole), path.name


@over(STEPS)
def test_a_batch_goes_on_with_the_generators_of_its_videos(case, tmp_path):
    if not case.batch:
        pytest.skip("the call makes one video")
    arguments = {**case.batch, "generator": [torch.Generator().manual_seed(SEED + index) for index in range(2)]}
    copies = snapshots(case, tmp_path, 1, **arguments)
    arguments["generator"] = [torch.Generator().manual_seed(SEED + index) for index in range(2)]
    whole = video(case, **arguments)
    assert torch.equal(finished(case, copies[0]), whole)


@over(SOME_STEPS)
def test_a_run_without_a_generator_goes_on_with_the_global_stream(case, tmp_path):
    shared(case.name), another(case.name)  # made before, since their weights are drawn from the global stream, too
    torch.manual_seed(SEED)
    whole = video(case, generator=None)
    torch.manual_seed(SEED)
    copies = snapshots(case, tmp_path, 1, generator=None)
    torch.manual_seed(0)
    for path in (copies[0], copies[-1]):
        assert torch.equal(finished(case, path), whole)


@with_callback
def test_a_callback_goes_on_where_it_was(case, tmp_path):
    copies = snapshots(case, tmp_path, 1, num_inference_steps=3)
    seen = []

    def note(pipeline, step, timestep, tensors):
        seen.append((step, float(timestep), pipeline.num_timesteps, tensors["latents"].clone()))
        return {}

    whole = video(case, num_inference_steps=3, callback_on_step_end=note)
    expected, seen = seen, []
    assert torch.equal(finished(case, copies[1], callback_on_step_end=note), whole)
    assert [one[:3] for one in seen] == [one[:3] for one in expected[2:]]
    assert all(torch.equal(one[3], other[3]) for one, other in zip(seen, expected[2:], strict=True))


@with_callback
def test_what_a_callback_has_changed_stays_changed(case, tmp_path):
    names = [name for name in case.pipeline_class._callback_tensor_inputs if name != "latents"]

    def change(pipeline, step, _timestep, tensors):
        if step == 1:
            pipeline._guidance_scale = 4.0
        return {name: tensors[name] * 0.5 for name in names} if step == 0 else {}

    arguments = {
        "num_inference_steps": 4,
        "callback_on_step_end": change,
        "callback_on_step_end_tensor_inputs": names,
    }
    whole = video(case, **arguments)
    for path in snapshots(case, tmp_path, 1, **arguments)[1:]:
        assert torch.equal(finished(case, path), whole), path.name


@over(SOME_STEPS)
def test_a_run_that_goes_on_is_kept_further(case, tmp_path):
    [first, *_] = snapshots(case, tmp_path, 1, num_inference_steps=3)
    whole = video(case, num_inference_steps=3)
    with pytest.raises(RuntimeError, match="broken"):
        broken(case).finish(first)
    assert read_unfinished(first).is_denoised
    assert torch.equal(finished(case, first), whole)


@over(SOME)
def test_a_decode_that_fails_leaves_the_latents_with_its_error(case):
    with pytest.raises(RuntimeError, match="broken") as caught:
        video(case, broken(case))
    assert torch.equal(finished(case, caught.value.unfinished), video(case))
    if hasattr(caught.value, "__notes__"):
        assert "pipeline.finish(error.unfinished)" in caught.value.__notes__[0]


@over(SOME)
def test_a_pipeline_keeps_its_calls_in_a_folder(case, tmp_path):
    folder = tmp_path / "new" / "folder"
    pipeline = copy.copy(shared(case.name))
    pipeline.keep_unfinished(folder, every=1 if case in STEPS else None)
    seen = []
    decode = pipeline.decode
    pipeline.decode = lambda *given: seen.extend(folder.iterdir()) or decode(*given)
    assert torch.equal(video(case, pipeline), video(case))
    assert [path.name.startswith(case.pipeline) for path in seen] == [True]
    assert not list(folder.iterdir())

    pipeline.decode = broken(case).decode
    with pytest.raises(RuntimeError, match="broken"):
        video(case, pipeline)
    [kept] = folder.iterdir()
    assert torch.equal(finished(case, kept), video(case))


@over_all
def test_out_of_memory_in_decoding_costs_nothing_but_time(case, caplog):
    pipeline, generator = fresh(case), seeded()
    whole = video(case, generator=generator)
    state, vae = generator.get_state(), pipeline.vae
    size = request(case).size
    ways = smaller_ways(vae, size.height, size.width)
    before, stream, generator = coding_settings(vae), vae.decode_stream, seeded()

    def fail_once(*args, **kwargs):
        vae.decode_stream = stream
        made = next(stream(*args, **kwargs))  # all noise is drawn
        yield made[:0] if made.dim() == 4 else made[:, :, :0]  # pictures, or frames of videos
        raise torch.OutOfMemoryError("CUDA out of memory.")

    vae.decode_stream = fail_once
    if not ways:
        with pytest.raises(torch.OutOfMemoryError):
            video(case, pipeline, generator=generator)
        return
    with caplog.at_level(logging.WARNING):
        frames = video(case, pipeline, generator=generator)
    assert f"ran out of memory and continues {ways[0].name}." in caplog.text
    assert coding_settings(vae) == before
    assert torch.equal(generator.get_state(), state)
    assert frames.shape == whole.shape
    if ways[0].tile is None:
        close(frames, whole)


@over(SOME_STEPS)
def test_only_the_steps_that_are_left_are_told(case, tmp_path):
    path = snapshots(case, tmp_path, 1, num_inference_steps=3)[1]
    pipeline = another(case.name)
    unfinished = read_unfinished(path)
    events = list(run(pipeline, request_of(pipeline, unfinished), FileJournal(None, begun=unfinished)))
    steps = [(event.step, event.total) for event in events if event.stage == "denoise"]
    total = 3 + case.extra_steps
    assert steps == [(step, total) for step in range(3, total + 1)]
