"""`streamgen serve`: one process, one engine thread, one event loop; every door opens on the session `live`.

    engine's thread ──► live ──► WebSocket listeners, the page      :8711
                             ──► OSC: control, meters, audio        :8712
                             ──► the sound card, if there is one
                             ──► a recording

Rules: puts doors and engine together and ends them in order; no protocol, no audio arithmetic.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import secrets
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bridge.audio.recorder import check_recording
from bridge.cli.options import add_json_option, add_model_options, load_model, number
from bridge.cli.terminal import print_json, say
from bridge.doors.access import Access
from bridge.doors.native import opus
from bridge.doors.native.door import WebServer, serve_web
from bridge.doors.osc.server import OscServer, serve_osc
from bridge.doors.sound_card.card import OutputDevice, choose_device
from bridge.doors.sound_card.door import SoundDoor
from bridge.errors import DeviceError, FileError, UsageError
from bridge.metrics import Metrics, WatchedSelector
from bridge.session.engine_thread import EngineThread, LiveSession
from bridge.session.parameters import Value, checked
from bridge.session.registry import Sessions
from bridge.threads import go_first, take_short_turns

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["add_arguments", "run"]

WEB_ROOT = Path(__file__).parents[1] / "web"
_MEASURE_SECONDS = 1.0
_COMFORTABLE = 1.15
_HEAD_START_SECONDS, _HEAD_START_PATIENCE_SECONDS = 1.0, 2.0
_FIRST_PROMPT = "lofi hip hop, electric piano, drums, 94 bpm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    port = number(0, 65_535, whole=True)
    parser.add_argument("--prompt", default=_FIRST_PROMPT, metavar="TEXT", help=f"to begin with ({_FIRST_PROMPT!r})")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to bind (default: this machine only)")
    parser.add_argument("--port", type=port, default=8711, metavar="N", help="page, WebSocket, HTTP (default: 8711)")
    parser.add_argument("--osc-port", type=port, default=8712, metavar="N", help="OSC, UDP and TCP (default: 8712)")
    parser.add_argument("--token", default="", metavar="SECRET", help="what clients must know; other hosts demand it")
    parser.add_argument("--insecure", action="store_true", help="let other machines in without a token")
    parser.add_argument("--allow-origin", action="append", default=[], metavar="URL", help="web pages that may connect")
    parser.add_argument("--no-soundcard", action="store_true", help="do not play here")
    parser.add_argument("--output", metavar="NAME", help="sound device: number, part of its name, API: name")
    latency = number(0.01, 1.0, "seconds")
    about = "asked of the sound device, of which a sound server keeps a part (default: 0.2)"
    parser.add_argument("--latency", type=latency, default=0.2, metavar="S", help=about)
    parser.add_argument("--record", type=Path, metavar="FILE", help="record the output: .flac or .wav")
    parser.add_argument("--config", type=Path, metavar="FILE", help="options from a TOML file; the command line wins")
    add_model_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; exit code 0."""
    args = _with_config(args)
    access = Access(args.host, token=args.token, insecure=args.insecure, allowed_origins=tuple(args.allow_origin))
    _first_values(args)  # what cannot be is told before seconds of loading: a prompt, a recording, a device
    _check_recording(args.record)
    device = _find_device(args)
    go_first()  # before torch and PortAudio start threads
    model = load_model(args)
    factor = measure(model, args.prompt)
    _say_speed(factor, model)
    opus.load()
    # what is here to stay is never looked through again: a full collection would hold the event loop for 90 ms
    gc.collect()
    gc.freeze()
    take_short_turns()
    metrics = Metrics()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(WatchedSelector(metrics))) as runner:
        runner.run(_serve(args, access, device, model, factor, metrics))
    return 0


def _check_recording(path: Path | None) -> None:
    try:
        if path is not None:
            check_recording(path)
    except FileError as error:
        raise UsageError(f"--record: {error}") from error


def _first_values(args: argparse.Namespace) -> dict[str, Value]:
    return checked({"prompt/1/text": args.prompt, "seed": secrets.randbelow(2**31)})


def _with_config(args: argparse.Namespace) -> argparse.Namespace:
    """Fill what the command line left at its default from a TOML file."""
    if args.config is None:
        return args
    import tomllib

    try:
        settings = tomllib.loads(args.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {str(args.config)!r} cannot be read: {error}") from error
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    words = [word for name, value in settings.items() for word in _words(parser, name, value)]
    known = parser.parse_args(words)
    plain = parser.parse_args([])
    said = {name: value for name, value in vars(args).items() if value != getattr(plain, name, None)}
    return argparse.Namespace(**{**vars(known), **said})


def _words(parser: argparse.ArgumentParser, name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if option not in parser._option_string_actions or option == "--config":
        raise UsageError(f"--config names {name!r}, which is no option of serve; see `streamgen serve --help`")
    if isinstance(value, bool):
        return [option] if value else []
    return [word for one in (value if isinstance(value, list) else [value]) for word in (option, str(one))]


def measure(model: Model, prompt: str) -> float:
    """Play a second into the void: seconds of audio a second of work, guidance on, after a warm-up."""
    with model.open_stream(prompt or None, seed=0) as stream:
        stream.read(model.sample_rate_hz // 5)
        began = time.perf_counter()
        stream.read(round(_MEASURE_SECONDS * model.sample_rate_hz))
        return _MEASURE_SECONDS / (time.perf_counter() - began)


def _say_speed(factor: float, model: Model) -> None:
    if factor >= _COMFORTABLE:
        say(f"{model.name} plays at {factor:.1f} × real time here")
        return
    say(
        f"{model.name} plays at {factor:.2f} × real time here: there will be pauses. Choose --model pocket, a smaller "
        "checkpoint, --precision bf16, or a GPU (--device cuda)"
    )


async def _serve(
    args: argparse.Namespace,
    access: Access,
    device: OutputDevice | None,
    model: Model,
    factor: float,
    metrics: Metrics,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number_, stop.set)
    async with AsyncExitStack() as stack:
        engine = EngineThread(model, loop, factor, metrics.step_seconds)
        stack.push_async_callback(engine.close)
        live = await engine.open_session("live", _first_values(args))
        sessions = Sessions(engine, live)
        stack.push_async_callback(sessions.close, "the server is stopping")
        stack.push_async_callback(_ended, asyncio.create_task(sessions.reap()))
        stack.push_async_callback(_ended, asyncio.create_task(metrics.watch_loop()))
        await _music_ahead(live)
        if args.record is not None:  # before any door opens, so that the file begins with sample 0
            await live.record(args.record)
        osc = await serve_osc(live, args.host, args.osc_port, token=args.token or None)
        stack.push_async_callback(osc.close)
        web = await serve_web(
            sessions.get, args.host, args.port, access=access, web_root=WEB_ROOT, metrics=metrics, osc_port=osc.port
        )
        stack.push_async_callback(web.close, "the server is stopping")
        sound = await _open_sound(live, device, args.latency, stack)
        metrics.sources.append(lambda: _count(metrics, engine, sessions, osc, sound))
        gc.freeze()
        metrics.loop_held_seconds = 0.0  # opening the doors kept nobody waiting
        about = {"model": model.name, "precision": model.precision, "realtime_factor": round(factor, 3)}
        _say_ready(args, _ready(web, osc, sound, live, args.token) | about, device)
        await stop.wait()
        say("stopping: saying goodbye to clients, finishing the recording")


async def _music_ahead(live: LiveSession) -> None:
    """Let some music be made before the first sound: opening the doors, and a browser that follows, take both cores."""
    patience = time.monotonic() + _HEAD_START_PATIENCE_SECONDS
    while live.stats().lead_seconds < _HEAD_START_SECONDS and time.monotonic() < patience:
        await asyncio.sleep(0.02)


def _count(metrics: Metrics, engine: EngineThread, sessions: Sessions, osc: OscServer, sound: SoundDoor | None) -> None:
    """Copy what the parts count themselves."""
    metrics.unhealthy = "" if engine.alive else "the engine's thread has ended: start the service again"
    metrics.sessions = len(sessions)
    counters = osc.counters
    metrics.received["osc"], metrics.commands["osc"] = counters.packets, counters.commands
    metrics.errors["osc"] = counters.errors
    for why, count in counters.refused.items():
        metrics.refused[f"osc_{why}"] = count
    metrics.dropped_packets = counters.dropped
    metrics.listeners["osc"], metrics.listeners["osc_audio"] = osc.subscribers, osc.audio_subscribers
    if sound is not None:
        metrics.sound = sound.stats()
        metrics.listeners["sound"] = int(bool(metrics.sound.device))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _find_device(args: argparse.Namespace) -> OutputDevice | None:
    """Choose where to play; None is nowhere. The service does not depend on it unless a device was named."""
    if args.no_soundcard:
        return None
    try:
        return choose_device(args.output)
    except DeviceError as error:
        if args.output is not None:
            raise
        say(f"no sound here: {error}")
        return None


async def _open_sound(
    live: LiveSession, device: OutputDevice | None, latency_seconds: float, stack: AsyncExitStack
) -> SoundDoor | None:
    if device is None:
        return None
    door = SoundDoor(live, device, latency_seconds=latency_seconds)
    await door.open()
    stack.push_async_callback(door.close)
    return door


def _ready(web: WebServer, osc: OscServer, sound: SoundDoor | None, live: LiveSession, token: str) -> dict[str, Any]:
    """Tell where everything is. A device that is there need not open: `sound` is where it plays now, or None."""
    query = f"?token={quote(token, safe='')}" if token else ""
    return {
        "event": "ready",
        "page": web.url,
        "websocket": web.url.replace("http", "ws", 1).rstrip("/") + f"/v1/stream{query}",
        "osc_port": osc.port,
        "sound": (sound.stats().device or None) if sound else None,
        "recording": str(live.recording) if live.recording else None,
    }


def _say_ready(args: argparse.Namespace, ready: dict[str, Any], device: OutputDevice | None) -> None:
    query = ready["websocket"].partition("?")[2]
    sound = ready["sound"] or (f"none yet ({device.name} does not open; trying on)" if device else "none")
    say(
        f"ready: page {ready['page']}{query and '?' + query} · WebSocket {ready['websocket']} · "
        f"OSC udp and tcp {args.host}:{ready['osc_port']} · sound {sound}"
        + (f" · recording to {ready['recording']}" if ready["recording"] else "")
    )
    if args.json:
        print_json(ready)
