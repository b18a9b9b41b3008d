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
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.audio_out.sound_card import choose_device
from bridge.audio_out.sound_door import SoundDoor
from bridge.engine_thread import EngineThread, LiveSession
from bridge.errors import DeviceError, UsageError
from bridge.metrics import Metrics
from bridge.network.access import Access
from bridge.network.osc import serve_osc
from bridge.network.osc_limits import OscCounters
from bridge.network.websocket import serve_web
from bridge.options import add_json_option, add_model_options, load_model, number
from bridge.parameters import checked
from bridge.terminal import print_json, say

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["add_arguments", "run"]

WEB_ROOT = Path(__file__).parent / "web"
_MEASURE_SECONDS = 1.0
_REAP_SECONDS = 30.0
_COMFORTABLE = 1.15
_FIRST_PROMPT = "lofi piano, 80 bpm"


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
    parser.add_argument("--record", type=Path, metavar="FILE", help="record the output: .flac or .wav")
    parser.add_argument("--config", type=Path, metavar="FILE", help="options from a TOML file; the command line wins")
    add_model_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; exit code 0."""
    args = _with_config(args)
    access = Access(args.host, token=args.token, insecure=args.insecure, allowed_origins=tuple(args.allow_origin))
    first = checked({"prompt/1/text": args.prompt, "seed": secrets.randbelow(2**31)})
    model = load_model(args)
    factor = measure(model, args.prompt)
    _say_speed(factor, model)
    # what loading left behind is never looked through again: a full collection would hold the event loop for 90 ms
    gc.collect()
    gc.freeze()
    asyncio.run(_serve(args, access, model, factor, first))
    return 0


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


class Sessions:
    """Sessions by name: `live` for ever, others until nobody has listened for a while."""

    def __init__(self, engine: EngineThread, live: LiveSession) -> None:
        self._engine, self._open = engine, {live.name: live}
        self._idle_since: dict[str, float] = {}

    async def get(self, name: str) -> LiveSession:
        """Return the session of a name, opening it if need be; `new` is always a fresh one.

        Raises:
            CapacityError: this machine keeps up with no more.
        """
        if name == "new":
            name = f"s-{secrets.token_hex(4)}"
        if name not in self._open:
            self._open[name] = await self._engine.open_session(name)
        self._idle_since.pop(name, None)
        return self._open[name]

    async def reap(self) -> None:
        """Close what nobody listens to, for ever."""
        while True:
            await asyncio.sleep(_REAP_SECONDS / 10)
            for name, session in list(self._open.items()):
                if name != "live" and session.stats().listeners == 0:
                    since = self._idle_since.setdefault(name, time.monotonic())
                    if time.monotonic() - since > _REAP_SECONDS:
                        await self._close(name, "nobody listened")

    async def _close(self, name: str, reason: str) -> None:
        session = self._open.pop(name)
        self._idle_since.pop(name, None)
        await session.close(reason)

    async def close(self, reason: str) -> None:
        """Close all."""
        for name in list(self._open):
            await self._close(name, reason)


async def _serve(
    args: argparse.Namespace, access: Access, model: Model, factor: float, first: Mapping[str, Any]
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number_, stop.set)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        engine = EngineThread(model, loop, factor, metrics.step_seconds)
        stack.push_async_callback(engine.close)
        live = await engine.open_session("live", first)
        sessions = Sessions(engine, live)
        stack.push_async_callback(sessions.close, "the server is stopping")
        stack.push_async_callback(_ended, asyncio.create_task(sessions.reap()))
        stack.push_async_callback(_ended, asyncio.create_task(metrics.watch_loop()))
        if args.record is not None:  # before any door opens, so that the file begins with sample 0
            await live.record(args.record)
        osc = await serve_osc(live, args.host, args.osc_port, token=args.token or None)
        stack.push_async_callback(osc.close)
        stack.push_async_callback(_ended, asyncio.create_task(_follow(osc.counters, metrics)))
        web = await serve_web(
            sessions.get, args.host, args.port, access=access, web_root=WEB_ROOT, metrics=metrics, osc_port=osc.port
        )
        stack.push_async_callback(web.close, "the server is stopping")
        sound = await _open_sound(args, live, stack)
        _say_ready(args, web.url, osc.port, sound, model, factor)
        await stop.wait()
        say("stopping: saying goodbye to clients, finishing the recording")


async def _follow(counters: OscCounters, metrics: Metrics) -> None:
    """Show what the OSC door counts among the service's metrics, once a second."""
    while True:
        metrics.commands["osc"], metrics.errors["osc"] = counters.commands, counters.errors
        for why, count in counters.refused.items():
            metrics.refused[f"osc_{why}"] = count
        await asyncio.sleep(1.0)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _open_sound(args: argparse.Namespace, live: LiveSession, stack: AsyncExitStack) -> str | None:
    """Play here if there is a device; the service does not depend on it unless one was named."""
    if args.no_soundcard:
        return None
    try:
        device = choose_device(args.output)
    except DeviceError as error:
        if args.output is not None:
            raise
        say(f"no sound here: {error}")
        return None
    door = SoundDoor(live, device)
    await door.open()
    stack.push_async_callback(door.close)
    return f"{device.name} ({device.host_api}, {device.sample_rate_hz} Hz)"


def _say_ready(
    args: argparse.Namespace, url: str, osc_port: int, sound: str | None, model: Model, factor: float
) -> None:
    query = f"?token={args.token}" if args.token else ""
    socket_url = url.replace("http", "ws", 1).rstrip("/") + f"/v1/stream{query}"
    recording = f" · recording to {args.record}" if args.record else ""
    say(
        f"ready: page {url}{query} · WebSocket {socket_url} · OSC udp and tcp {args.host}:{osc_port} · "
        f"sound {sound or 'none'}{recording}"
    )
    if args.json:
        fields = {"event": "ready", "page": url, "websocket": socket_url, "osc_port": osc_port, "sound": sound}
        print_json({**fields, "model": model.name, "precision": model.precision, "realtime_factor": round(factor, 3)})
