"""Steps and decoding at full width on one accelerator: ours against the reference's, as written and compiled.

    python benchmarks/gpu.py [--seconds-per-case 3] [--only ltx] [--limit 200] [--out gpu.jsonl] [--miniature]

Weights are random and the same on both sides; sizes are those of the released models' first examples. The cases run in
a process of their own, each with a time limit: one that hangs, or takes the process with it, is noted, and the next one
goes on. Every result is written to --out as soon as it is there; the tables at the end are made from that. Where the
reference is not installed its columns stay empty. --miniature runs everything tiny, on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# ---- the process that measures ---------------------------------------------------------------------------------------


def cases() -> list[str]:
    """All that there is to be measured, what says most first."""
    from _gpu_runs import RUNS
    from _gpu_works import COMPILED, WORKS

    eager = [f"{name}, eager" for name in WORKS]
    return ["device", *eager, *(f"{name}, whole" for name in RUNS), *(f"{name}, compiled" for name in COMPILED)]


def measure(arguments: argparse.Namespace) -> None:
    """Measure the cases and print a line of JSON for each that begins and for each result."""
    import gc
    import logging
    import warnings

    import torch
    from _gpu_works import Setting

    from filmstrip.devices import best_device, empty_cache

    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    device = torch.device("cpu") if arguments.miniature else best_device()
    setting = Setting(device, arguments.miniature)
    for case in [case for case in cases() if arguments.only in case or case == "device"]:
        if case in arguments.without:
            continue
        tell(begin=case)
        started = time.perf_counter()
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                for row in rows(case, setting, arguments.seconds_per_case):
                    tell(case=case, **row)
        except Exception as error:
            tell(case=case, error=f"{type(error).__name__}: {error}"[:500])
        gc.collect()
        torch.compiler.reset()
        empty_cache(device)
        tell(end=case, took=time.perf_counter() - started)


def rows(case: str, setting: Any, budget: float) -> Iterator[dict[str, Any]]:
    """The results of one case."""
    from _gpu_runs import measured
    from _gpu_works import WORKS

    name, _, way = case.rpartition(", ")
    if case == "device":
        yield surroundings(setting)
    elif way == "whole":
        yield from measured(name, setting)
    else:
        yield compare(WORKS[name](setting), setting, budget, is_compiled=way == "compiled")


def surroundings(setting: Any) -> dict[str, Any]:
    """The device, and what it reaches at its best."""
    import torch
    from _gpu_measuring import copy_rate, product_rate

    from filmstrip.devices import summarize_devices

    side, nbytes = setting.pick(8192, 128), setting.pick(2**31, 2**16)
    return {
        "title": next(one.title for one in summarize_devices() if one.name.startswith(setting.device.type)),
        "torch": torch.__version__,
        "product_rate": product_rate(setting.device, torch.bfloat16, side),
        "copy_rate": copy_rate(setting.device, nbytes),
    }


def compare(work: Any, setting: Any, budget: float, *, is_compiled: bool) -> dict[str, Any]:
    """Seconds, peaks and launches of one work on both sides."""
    from _gpu_measuring import difference, launches, median, operations, peak_of, seconds_in_turn, spread

    calls = {"ours": work.run or work.ours}
    if work.theirs is not None:
        calls["reference"] = work.theirs
    row: dict[str, Any] = {"note": work.note, "scale": work.scale, "operations": operations(work.ours) * work.scale}
    if work.theirs is not None:
        row["reference operations"] = operations(work.theirs) * work.scale
        row["difference"] = difference(work.ours(), work.theirs())
    if is_compiled:
        work.compile()
        for side, call in calls.items():
            begin = time.perf_counter()
            call()
            row[f"{side} compiling"] = time.perf_counter() - begin
    if is_compiled or work.theirs is None:  # else both have been called by now
        for call in calls.values():
            call()
    for side, seconds in seconds_in_turn(calls, setting.device, budget).items():
        row[side] = median(seconds) * work.scale
        row[f"{side} spread"], row[f"{side} repeats"] = spread(seconds), len(seconds)
    for side, call in calls.items():
        row[f"{side} peak"] = peak_of(call, setting.device)
    for side, call in calls.items():
        row[f"{side} launches"] = round(launches(call, setting.device) * work.scale)
    return row


def tell(**row: Any) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


# ---- the process that watches over it --------------------------------------------------------------------------------


def watched(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Results as they come, in a new process after each case that did not end, until all are done or time is up."""
    deadline = time.monotonic() + arguments.limit
    done: list[str] = []
    while True:
        running = ""
        for row in lines_of(child_command(arguments, done), arguments.case_limit, deadline):
            if "begin" in row:
                running = row["begin"]
            elif "end" in row:
                done.append(row["end"])
                running = ""
            elif "stopped" in row and not running:
                yield {"case": "all", "error": row["stopped"]}
                return
            elif "stopped" in row:
                yield {"case": running, "error": row["stopped"]}
            else:
                yield row
        if not running or time.monotonic() > deadline:
            return
        done.append(running)


def child_command(arguments: argparse.Namespace, done: list[str]) -> list[str]:
    given = ["--only", arguments.only, "--seconds-per-case", str(arguments.seconds_per_case)]
    if arguments.miniature:
        given.append("--miniature")
    return [sys.executable, "-W", "ignore", __file__, "--child", *given, "--without", json.dumps(done)]


def lines_of(command: list[str], case_limit: float, deadline: float) -> Iterator[dict[str, Any]]:
    """What a process prints, line by line; it is ended, and a last row says so, if it is silent for too long."""
    # Its errors go where ours go; what libraries print among the results is passed over.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    stopped = ""
    while not stopped:
        left = deadline - time.monotonic()
        try:
            line = lines.get(timeout=max(0.0, min(case_limit, left)))
        except queue.Empty:
            stopped = "the time for all cases was over" if left <= case_limit else f"took over {case_limit:g} s"
            break
        if line is None:
            if code := process.wait():
                stopped = f"the process ended with {code}"
            break
        if line.startswith("{"):
            yield json.loads(line)
    end(process)
    reader.join(10)
    if stopped:
        yield {"stopped": stopped}


def end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, 9)
        except (AttributeError, ProcessLookupError, PermissionError):
            process.kill()
    process.wait()


# ---- tables ----------------------------------------------------------------------------------------------------------


def tables(results: list[dict[str, Any]]) -> str:
    """All results as Markdown."""
    of_device = next((row for row in results if row.get("case") == "device" and "title" in row), {})
    best = of_device.get("product_rate")
    parts = []
    if best:
        parts.append(
            f"{of_device['title']}, torch {of_device['torch']}: a large product in bfloat16 reaches {best / 1e12:.0f}"
            f" TFLOP/s, a copy {of_device['copy_rate'] / 1e12:.2f} TB/s."
        )
    compared = [row for row in results if "ours" in row]
    head = (
        "| case | ours | reference | ratio | TFLOP | ours, TFLOP/s (share) | reference | peak, GB | launches | error |"
    )
    parts.append("\n".join([head, "|" + " --- |" * 10, *(comparison(row, best) for row in compared)]))
    whole = [row for row in results if "stage" in row]
    head = "| run of two steps | stage | seconds | predicted, GB | measured, GB | ratio |"
    parts.append("\n".join([head, "|" + " --- |" * 6, *map(prediction, whole)]))
    parts.extend(f"{row['case']}: {row['error']}" for row in results if "error" in row)
    return "\n\n".join(parts)


def comparison(row: dict[str, Any], best: float | None) -> str:
    ours, theirs = row["ours"], row.get("reference")

    def rate(seconds: float | None, work: float) -> str:
        if not seconds or not best:
            return ""
        return f"{work / seconds / 1e12:.4g} ({work / seconds / best:.2f})"

    def both(name: str, unit: float, form: str) -> str:
        return " / ".join(
            f"{row[f'{side} {name}'] / unit:{form}}" for side in ("ours", "reference") if f"{side} {name}" in row
        )

    said = f"{row['case']} ({row['note']})"
    if "ours compiling" in row:
        said += f", compiled in {both('compiling', 1, '.0f')} s"
    times = [
        f"{ours * 1e3:.4g} ms",
        f"{theirs * 1e3:.4g} ms" if theirs else "",
        f"{ours / theirs:.2f}" if theirs else "",
    ]
    cells = [said, *times, f"{row['operations'] / 1e12:.4g}", rate(ours, row["operations"])]
    cells += [rate(theirs, row.get("reference operations", 0)), both("peak", 1e9, ".2f")]
    error = f"{row['difference']:.1e}" if "difference" in row else ""
    return f"| {' | '.join([*cells, both('launches', 1, '.0f'), error])} |"


def prediction(row: dict[str, Any]) -> str:
    predicted, real = row["predicted"], row["measured"]
    ratio = f"{predicted / real:.2f}" if real else ""
    name = row["case"].removesuffix(", whole")
    return f"| {name} | {row['stage']} | {row['seconds']:.2f} | {predicted / 1e9:.2f} | {real / 1e9:.2f} | {ratio} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--miniature", action="store_true", help="everything tiny, on the CPU")
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--seconds-per-case", type=float, default=3.0, help="for the repeats of both sides")
    parser.add_argument("--case-limit", type=float, default=75.0, help="seconds after which a case is given up")
    parser.add_argument("--limit", type=float, default=200.0, help="seconds for all cases")
    parser.add_argument("--out", type=Path, help="file for the results, one JSON object a line")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--without", type=json.loads, default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments)
        return 0
    results = []
    out = arguments.out or Path(tempfile.mkdtemp()) / "gpu.jsonl"
    with out.open("w", encoding="utf-8") as file:
        for row in watched(arguments):
            results.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{row['case']}: {row.get('error') or 'measured'}", file=sys.stderr, flush=True)
    print(tables(results))
    return 1 if any("error" in row for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
