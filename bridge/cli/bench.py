"""`streamgen bench`: the measured table of this machine.

Rules: measures, never estimates; a figure that could not be taken is null and says why.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.options import add_json_option, add_settings, load_model, number, settings_of
from bridge.cli.terminal import Progress, print_json, say, table
from bridge.comparison import SHAPES, Comparison, compare, write_random_checkpoint
from bridge.errors import UsageError
from bridge.settings import Settings

if TYPE_CHECKING:
    from bridge.speed import StreamFigures
    from streamgen import Model

__all__ = ["add_arguments", "run"]

# Windows hold 30 s and keep 12: 100 s of the shipped model see four rollovers. A big shape takes minutes for its first.
_MODEL_SECONDS, _SHAPE_SECONDS = 100.0, 4.0
_AGAINST_MAX_SECONDS = 29.0
_ROLLOVER_SECONDS = 30.0  # the first window is full then
_RUNS = 3  # of the same work, so that what other programs took can be told from what a step takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape, in place of --model")
    parser.add_argument("--stereo", action="store_true", help="with --shape: 8 codebooks in place of 4")
    parser.add_argument(
        "--seconds", type=number(1, 3_600, "seconds"), metavar="S",
        help=f"audio to make for each figure (default: {_MODEL_SECONDS:g}, with --shape {_SHAPE_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--sessions",
        type=number(1, 512, whole=True),
        default=1,
        metavar="N",
        help="listeners at once, up to N (default: 1); beyond eight not every number",
    )
    parser.add_argument(
        "--against", choices=("transformers",), help="the same job by transformers' generate(), and the ratio"
    )
    parser.add_argument("--curve", action="store_true", help="what a pass costs, by rows and by place in the window")
    add_settings(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and with --json the fields."""
    if args.stereo and not args.shape:
        raise UsageError("--stereo belongs to --shape; a --model is mono or stereo by itself")
    seconds = args.seconds or (_SHAPE_SECONDS if args.shape else _MODEL_SECONDS)
    with _checkpoint(args) as settings:
        model = load_model(settings)
        if args.against:
            _check_both_play(model)
        fields = _measure(model, args, seconds)
        if args.against:
            fields |= _against(model, settings, min(seconds, _AGAINST_MAX_SECONDS))
    for line in table(_rows(fields)):
        say(line)
    if args.json:
        print_json(fields)
    return 0


@contextmanager
def _checkpoint(args: argparse.Namespace) -> Iterator[Settings]:
    """Give the settings; with --shape, of a model that is written there, and gone when the block ends."""
    settings = settings_of(args)
    if not args.shape:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="streamgen-bench-") as folder:
        say(f"writing random weights of {args.shape}'s shape …")
        write_random_checkpoint(args.shape, args.stereo, Path(folder))
        yield replace(settings, model=folder)


def _counts(most: int) -> list[int]:
    """How many listeners to try: each number up to eight, then half as many more at a time."""
    counts = list(range(1, min(most, 8) + 1))
    while counts[-1] < most:
        counts.append(min(counts[-1] * 3 // 2, most))
    return counts


def _measure(model: Model, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    from bridge.speed import memory_bytes_per_second, missed_deadlines, run_stream, step_costs

    runs = _RUNS if seconds >= _ROLLOVER_SECONDS else 1
    progress = Progress(seconds * runs)
    figures = run_stream(model, seconds, runs, progress.update)
    progress.close()
    bandwidth = memory_bytes_per_second(str(model.device))
    session_seconds = min(seconds, 10.0)
    sessions = [
        {"count": count, "missed_deadlines": missed_deadlines(model, count, session_seconds)}
        for count in _counts(int(args.sessions))
    ]
    name = {"shape": args.shape} if args.shape else {"model": model.name}
    fields = name | _fields(model, figures, bandwidth) | {"sessions": sessions}
    return fields | ({"curve": [asdict(cost) for cost in step_costs(model)]} if args.curve else {})


def _fields(model: Model, figures: StreamFigures, bandwidth: float) -> dict[str, Any]:
    rollover = figures.rollover
    return {
        "stereo": model.channels == 2,
        "precision": model.precision,
        "precision_note": model.load_note,
        "kernels": model.kernels,
        "device": str(model.device),
        "realtime_factor": round(figures.realtime_factor, 3),
        "memory_limit_factor": round(bandwidth / model.weight_bytes / model.frame_rate_hz, 3),
        "memory_bytes_per_second": round(bandwidth),
        "weight_bytes_per_step": model.weight_bytes,
        "window_seconds": round(model.window_seconds, 2),
        "frame_rate_hz": model.frame_rate_hz,
        "first_audio_seconds": round(figures.first_audio_seconds, 3),
        "step_ms": {"median": round(figures.step_ms_median, 3), "p99": round(figures.step_ms_p99, 3)},
        "rollover_ratio": rollover and round(rollover.ratio, 3),
        "rollover_worst_ratio": rollover and round(rollover.worst_ratio, 3),
        "quiet_ratio": rollover and rollover.quiet_ratio and round(rollover.quiet_ratio, 3),
        "rollovers": rollover.rollovers if rollover else 0,
        "codec_share": round(figures.codec_share, 3),
    }


def _check_both_play(model: Model) -> None:
    """Refuse what transformers' generate() does not play, before minutes were spent on it."""
    from streamgen import PromptError

    if model.format != "transformers":
        raise UsageError(
            f"--against transformers: {model.name} is in {model.format}'s format, which it does not read; give a "
            "folder that `streamgen convert` wrote"
        )
    try:
        model.learn(["drums"])
    except PromptError as error:
        raise UsageError(
            f"--against transformers: it plays whole checkpoints, from text to audio, and {error}"
        ) from None


def _against(model: Model, settings: Settings, seconds: float) -> dict[str, Any]:
    say(f"against transformers: {seconds:g} s of audio each, in turns …")
    return _against_fields(compare(model, _their_name(settings), seconds, say))


def _their_name(settings: Settings) -> str:
    if settings.model != "pocket":
        return settings.model
    from streamgen.pocket import pocket_folder

    return str(pocket_folder())


def _against_fields(result: Comparison) -> dict[str, Any]:
    theirs = {"precision": result.precision, "realtime_factor": round(result.theirs, 4)}
    return {"transformers": theirs, "generate_realtime_factor": round(result.ours, 4), "ratio": round(result.ratio, 3)}


def _rows(fields: dict[str, Any]) -> list[tuple[str, ...]]:
    step, ratio, real_time = fields["step_ms"], fields["rollover_ratio"], 1e3 / fields["frame_rate_hz"]
    rows: list[tuple[str, ...]] = [
        ("what", f"{fields.get('model') or fields['shape']}, {'stereo' if fields['stereo'] else 'mono'}"),
        ("precision", fields["precision_note"]),
        ("device, kernels", f"{fields['device']}, {fields['kernels']}"),
        ("speed", f"{fields['realtime_factor']:.2f} × real time"),
        ("limit set by memory", f"{fields['memory_limit_factor']:.2f} × real time"),
        ("first audio after", f"{fields['first_audio_seconds']:.2f} s"),
        ("one step", f"median {step['median']:.2f} ms, 99 % under {step['p99']:.2f} ms (real time is {real_time:g})"),
        ("codec's share", f"{100 * fields['codec_share']:.0f} %"),
        ("rollover", _rollover_line(fields) if ratio else _no_rollover(fields)),
        *((f"{row['count']} at once", f"{row['missed_deadlines']} chunks late") for row in fields["sessions"]),
    ]
    rows += [
        (f"{cost['rows']} rows at {cost['position']}", f"{cost['ms']:.2f} ms a pass")
        for cost in fields.get("curve", ())
    ]
    if "ratio" in fields:
        theirs = fields["transformers"]
        speed = f"{theirs['realtime_factor']:.3f} × real time in {theirs['precision']}"
        rows.append(("transformers", f"{speed}; streamgen is {fields['ratio']:.2f} times as fast"))
    return rows


def _no_rollover(fields: dict[str, Any]) -> str:
    return f"none in this time; a window lasts {fields['window_seconds']:.0f} s: raise --seconds"


def _rollover_line(fields: dict[str, Any]) -> str:
    quiet = fields["quiet_ratio"]
    beside = f"; {quiet:.2f} where there is none" if quiet else ""
    worst = f"worst of {fields['rollovers']}: {fields['rollover_worst_ratio']:.2f}"
    return f"longest step {fields['rollover_ratio']:.2f} × the median ({worst}{beside})"
