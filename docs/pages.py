"""The reference's tables, made from the code's own: nothing here spells a range, a default or a name that the code has.

    settings.reference() · session_table() · answers, frames · Namespace · Metrics · --help · docstrings ─► markdown

What the code has no words for (the fields of a message, a close code) is said here, by name; a name without words is an
error of the build, and tests/test_docs.py holds the words to the code.

Rules: returns markdown; knows no mkdocs. Loads the shipped checkpoint, for its own defaults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import inspect
import io
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, cast

import streamgen
from bridge.audio.spectra import BANDS_HZ
from bridge.cli import main as cli
from bridge.doors.access import Access, Limits
from bridge.doors.discovery.door import DiscoveryDoor
from bridge.doors.door import Service
from bridge.doors.http import oscquery
from bridge.doors.http.site import WEB_ROOT, read_page
from bridge.doors.jack.door import JackDoor
from bridge.doors.link.door import LinkDoor
from bridge.doors.lyria.door import LyriaDoor
from bridge.doors.midi.door import MidiDoor
from bridge.doors.native import answers as said_over_websocket
from bridge.doors.native import codecs, frames
from bridge.doors.native.door import NativeDoor
from bridge.doors.osc import namespace
from bridge.doors.osc.admission import OscLimits
from bridge.doors.osc.door import OscDoor
from bridge.doors.radio import door as radio
from bridge.doors.radio import encoders
from bridge.doors.sound_card.door import SoundCardDoor
from bridge.doors.udp.door import PATH as SDP_PATH
from bridge.doors.udp.door import UdpDoor
from bridge.metrics import Metrics
from bridge.session.commands import Action
from bridge.session.events import PlayerState
from bridge.session.parameters import session_table
from bridge.session.session import Session
from bridge.settings import Settings, reference
from streamgen.config import CONTROLS, ControlSpec, Value

__all__ = ["TABLES"]

Rows = Iterable[Sequence[object]]


def table(head: Sequence[str], rows: Rows) -> str:
    """Return a table in markdown; bars and angle brackets in cells are escaped, but for code."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text)
    plain = "".join(part if part.startswith("`") else html.escape(part, quote=False) for part in parts)
    return plain.replace("|", "\\|").replace("\n", " ")


def code(text: object) -> str:
    """Return a word as code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


# -- parameters and settings -------------------------------------------------------------------------------------------


@cache
def _pocket() -> streamgen.Model:
    return streamgen.load_model("pocket")


def parameters() -> str:
    """Every parameter of a session, with pocket's own defaults beside."""
    own = session_table(_pocket())
    rows = []
    for name, spec in session_table().items():
        of_pocket = "" if own[name] == spec else _of_pocket(own[name], spec)
        rows.append((code(name), spec.type, spec.in_words, _default(spec), of_pocket, spec.description))
    return table(("name", "type", "range, unit", "default", "`pocket`", "what it does"), rows)


def _default(spec: ControlSpec) -> str:
    return "drawn" if spec.name == "seed" else code(_shown(spec.default))


def _of_pocket(own: ControlSpec, spec: ControlSpec) -> str:
    limits = f", at most {own.limits[1]:g}" if own.has_range and own.limits != spec.limits else ""
    return code(_shown(own.default)) + limits


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def controls() -> str:
    """The controls that Python takes by keyword."""
    rows = [(code(spec.name), spec.type, spec.in_words, _default(spec), spec.description) for spec in CONTROLS.values()]
    return table(("keyword", "type", "takes", "default", "what it does"), rows)


def settings() -> str:
    """Every option and key of `serve`."""
    rows = [(code(row.option), code(row.key), row.takes, row.default, row.description) for row in reference()]
    return table(("option", "key", "takes", "default", "what it is"), rows)


def limits() -> str:
    """What a client of the WebSocket, and of HTTP, may take."""
    return _limits(Limits)


def osc_limits() -> str:
    """What a client of OSC may take."""
    return _limits(OscLimits)


def _limits(bounds: type[Limits] | type[OscLimits]) -> str:
    words = _attributes(bounds)
    rows = [
        (_names(names), ", ".join(_plain(getattr(bounds(), name)) for name in names), text)
        for names, text in words.items()
    ]
    return table(("limit", "value", "of what"), rows)


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


# -- commands ----------------------------------------------------------------------------------------------------------


def commands() -> str:
    """What each command's --help says."""
    parts = []
    for name, line in cli._COMMANDS.items():
        parts.append(f"## streamgen {name}\n\n{line[0].upper()}{line[1:]}.\n\n```text\n{help_of(name)}\n```\n")
    return "\n".join(parts)


def help_of(command: str) -> str:
    """Return what `streamgen COMMAND --help` prints, 100 columns wide."""
    printed, before = io.StringIO(), {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            cli.main([command, "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    return printed.getvalue().strip()


# -- WebSocket ---------------------------------------------------------------------------------------------------------

REQUESTS = {
    "set": (
        "`values`: {name: value}; [when](#when); `glide_seconds`: over which the effects' numbers go there",
        "changes parameters; all of them, or none where one is wrong",
    ),
    "transport": ("`action`: one of the [actions](#actions); [when](#when)", "plays, pauses, stops, resets"),
    "rack": (
        "`action`: `add`, `remove`, `replace` or `move`; `slot`: whose number, but for `add`; `effect`: a name out of "
        "`hello.effects`, for `add` and `replace`; `index`: place in the order from 0, for `add` and `move`; "
        "[when](#when)",
        "edits the [rack](../howto/plugins.md); the answer has `slots`",
    ),
    "preset": (
        "`action`: `save` or `recall`; `name`; `seconds`: over which to go there; `slot`: whose plugin's own preset "
        "it is; without it, the whole set; for `recall`, [when](#when)",
        "saves in the operator's folder, or brings back from there",
    ),
    "keep": (
        "`seconds`: 1 … 30, 30 by default",
        "writes what was heard last into the operator's folder; a `notice` tells everybody its name",
    ),
    "beats": ("`enabled`: true or false", "from now on this client is told each beat, or none; at first none"),
    "meters": ("`enabled`: true or false", "from now on this client is told the level, or not; at first not"),
    "audio": (
        f"any of {', '.join(map(code, frames.FORMAT_FIELDS))}",
        "how this client's audio comes from now on; the answer tells all of it",
    ),
    "audio_prompt": (
        "`bytes`: of the WAV, FLAC or Ogg file that follows as one binary message once this is acknowledged",
        "the music begins anew, and goes on from that recording",
    ),
    "melody": (
        "`bytes`: as for `audio_prompt`; 0: none is followed any more; [when](#when)",
        "the music follows that tune from a sample on, on checkpoints that follow melodies",
    ),
    "style": (
        "`bytes`, [when](#when): as for `melody`",
        "the music takes on the style of that recording, on checkpoints that take one",
    ),
    "get": (
        "`name`: a parameter; without it, all",
        "the answer has `values`, `state`, `playing`, `position_samples`, `heard`, `slots`",
    ),
    "ping": ("`t`: anything short", "the answer brings `t` back, with `server_time_us`"),
}
ANSWERS = {
    "hello": "first of all: what this is, how it sounds, what can be set and how it stands",
    "ack": "a request was carried out: `id`, `applied_at_sample`, `rate_hz`, and what the request asked for",
    "error": "a request was refused: `id`, `code`, `message`; nothing was changed",
}
EVENTS = {
    "changed": "parameters were changed, at whichever door",
    "table": "there are other parameters now, for the rack was edited: forget the table that was",
    "slot_fault": "an effect failed, came back, or was given up; its input is heard meanwhile",
    "presets": "there are other presets",
    "transport": "the transport was told something, or the player gave up",
    "gap": "audio is missing",
    "notice": "a line for people: what was heard in the prompts, what had died and begins anew, which part begins",
    "beat": "a beat, about a fifth of a second before it comes, to who asked for them",
    "meter": "the level, some 25 times a second, to who asked for it: to show it where no audio is taken",
    "stats": "how the session is doing, once a second",
    "goaway": "the session or the service ends; the connection is closed after it",
}
FIELDS = {
    "protocol": "`streamgen.v1`",
    "session": "its name; a client that was cut off comes back to it with `?session=NAME`",
    "model": "the checkpoint",
    "sample_rate_hz": "the session's rate, in which every position counts unless it says otherwise",
    "model_rate_hz": "the checkpoint's own",
    "follows": "kinds of audio that its music can follow: `melody`, `style` or none; an audio prompt it always takes",
    "audio": "how this client's frames come: `codec`, `sample_rate_hz`, `chunk_ms`, `enabled`, `channels`",
    "codecs": "what this server can send",
    "parameters": "the [table](parameters.md): `name`, `type`, `min`, `max`, `default` (the model's own), `unit`, "
    "`description`, `choices` where only some texts are allowed, `suggestions` where the model knows what to try (a "
    "prompt, its tempi), and `supported`, false, where it was not made for other values than the default",
    "effects": "names of what can be put into the rack",
    "presets": "names of what can be recalled",
    "slots": "the rack in the order of the signal: `slot`, `name`, `latency_samples`, `failed`, `strikes`, `load`",
    "slot": "a number, as in `plugin/N/…`",
    "name": "of the effect",
    "strikes": "how often it failed lately; at three it is given up",
    "given_up": "whether it stays out until its bypass is turned on and off",
    "names": "of all presets",
    "rack_latency_seconds": "what the rack holds back, which is made up for",
    "rack_faults": "how often an effect failed",
    "values": "parameters by name",
    "by": "who: `websocket 3`, `osc 192.168.1.7:9000`, `engine: …`",
    "applied_at_sample": "from where on it is heard",
    "action": "an [action](#actions), or `audio_prompt`",
    "topic": "`heard` (what the model understands of the prompts), `guard` (what had died and begins anew), `part` (of "
    "a scene, that begins), `unsupported` (what the checkpoint was not made for), `melody` or `style` (what is "
    "followed), `kept` (a take, and its name)",
    "text": "the line",
    "beat": "its number, from 0",
    "bar": "its bar's number, from 0; a bar has four beats",
    "tempo": "in bpm",
    "phase": "by how many beats the music's own bar is ahead of the session's, −2 … 2; null where nobody knows",
    "source": "whose beats they are: `internal`, `link`, `midi`, `jack`",
    "left_db": "peak of the left channel in dBFS, falling slowly; of what is heard a fifth of a second later",
    "right_db": "of the right one",
    "time_us": "when it comes, microseconds since 1970 by the server's clock",
    "state": "in `hello`: `values`, `state`, `playing`, `position_samples`, `heard`, `slots`; elsewhere what the "
    "[player](#what-the-player-does) does",
    "from_sample": "where the missing audio begins",
    "samples": "how many are missing",
    "reason": "of a gap: `slow_client` (this client did not read) or `underrun` (the engine was late); "
    "of `goaway`: a line; of a fault: why, and nothing when the effect is back",
    "realtime_factor": "seconds of audio made in a second of work",
    "lead_seconds": "audio made and not yet due",
    "underruns": "how often the engine was late",
    "listeners": "who takes audio",
    "window_position": "position in the model's window",
    "position_samples": "the first sample that is not final yet",
    "playing": "whether the transport plays",
    "rate_hz": "in which the message's positions count: the session's",
}
HEADER = {
    "version": "1",
    "codec": "see [codecs](#codecs)",
    "channels": "2",
    "flags": "1: this does not follow on from the frame before; 2: other prompts play from a sample in it on",
    "sequence": "counts frames of this connection, modulo 2³²",
    "sample_position": "of the first sample, counted at `sample_rate_hz`",
    "server_time_us": "when the first sample is due, microseconds since 1970 by the server's clock",
    "sample_rate_hz": "of this frame: what was asked for",
    "frame_count": "samples a channel",
}
CODECS = {
    "s16le": "16-bit integers, interleaved",
    "f32le": "32-bit floats, interleaved",
    "opus": "one Opus packet of 20 ms, 128 kbit/s; needs PyAV at the server (`pip install av`)",
}
CLOSE_CODES = {
    1001: "the session or the service ends; `goaway` said so before",
    1008: "refused: the reason says why; trying again will not help",
    1009: "a message was longer than allowed, and no audio prompt was announced",
    1011: "a fault of the server; its log says more",
    1013: "full, or too many wrong tokens: try again later",
    4008: "nothing was read for a minute",
}
ERROR_CODES = {
    "bad_json": "not a JSON object",
    "bad_message": "a field is missing, or of the wrong kind",
    "unknown_type": "there is no such request",
    "bad_value": "an unknown parameter, or a value outside its range",
    "bad_audio": "the bytes are no audio that can be read",
    "codec_unavailable": "Opus, where PyAV is not installed",
    "unexpected_binary": "a binary message that nothing announced",
    "too_fast": "more messages a second than allowed",
    "too_far": "`at_sample` or `at_beat` lies too far ahead",
    "busy": "too much waits already: messages, or changes for a sample",
    "refused": "the session could not do it; the message says why",
}
ACTIONS = {
    Action.PLAY: "goes on, or begins",
    Action.PAUSE: "holds; `play` goes on with the same music",
    Action.STOP: "pauses, and forgets the music so far: `play` begins another piece",
    Action.RESET: "forgets the music so far and goes on with a fresh piece at once",
}
STATES = {
    PlayerState.STOPPED: "halted; the next `play` begins anew",
    PlayerState.PAUSED: "halted; the next `play` goes on",
    PlayerState.STARTING: "will sound as soon as there is enough audio, and somebody who listens",
    PlayerState.PLAYING: "sounds",
    PlayerState.LATE: "the engine did not keep up: the timeline stands until there is audio again",
    PlayerState.FAILED: "the stream cannot go on; the next command tries again",
}


def requests() -> str:
    """What a client can ask over the WebSocket."""
    return table(("type", "fields", "what it does"), [(code(kind), *words) for kind, words in REQUESTS.items()])


def answers() -> str:
    """What the server says over the WebSocket, and every field of it."""
    rows = [(code("hello"), _names(hello_fields()), ANSWERS["hello"])]
    rows += [(code(kind), "", ANSWERS[kind]) for kind in ("ack", "error")]
    for event, kind in said_over_websocket._KINDS.items():
        names = _event_fields(event) + ["rate_hz"] * (event in said_over_websocket._COUNT_SAMPLES)
        rows.append((code(kind), _names(names), EVENTS[kind]))
    return table(("type", "fields", "what it says"), rows)


def answer_fields() -> str:
    """The fields of the server's messages."""
    told = [name for event in said_over_websocket._KINDS for name in _event_fields(event)]
    names = dict.fromkeys([*hello_fields(), *told, "rate_hz"])
    return table(("field", "is"), [(code(name), FIELDS[name]) for name in names])


def _event_fields(event: type[Any]) -> list[str]:
    """Return the names of an event's fields, as the wire has them."""
    return ["parameters" if field.name == "table" else field.name for field in fields(event)]


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(code, names))


def hello_fields() -> list[str]:
    """Return the names of what `hello` says, in its order: from a hello as it is built."""
    session = SimpleNamespace(
        rate_hz=48_000,
        model_rate_hz=32_000,
        follows=(),
        name="live",
        model="pocket",
        table={},
        values=dict,
        state=lambda: PlayerState.PLAYING,
        position_samples=int,
        heard=str,
        slots=list,
        effects=list,
        presets=list,
    )
    said = json.loads(said_over_websocket.hello(cast(Session, session), {}, []))
    return [name for name in said if name != "type"]


def header() -> str:
    """The header of a binary frame."""
    kinds = {"B": "u8", "I": "u32", "Q": "u64"}
    names = ["version", *(field.name for field in fields(frames.AudioHeader))]
    rows, at = [], 0
    for letter, name in zip(frames._HEADER.format.lstrip("<"), names, strict=True):
        rows.append((at, kinds[letter], code(name), HEADER[name]))
        at += struct.calcsize("<" + letter)
    assert at == frames.HEADER_BYTES, at
    return table(("byte", "type", "field", "is"), rows)


def codec_table() -> str:
    """The codecs."""
    rows = [(number, code(name), CODECS[name]) for name, number in frames.CODECS.items()]
    opus = ", ".join(f"{rate:,}" for rate in codecs.OPUS_RATES_HZ)
    about = f"Rates: {frames.MIN_RATE_HZ:,} … {frames.MAX_RATE_HZ:,} Hz; Opus has {opus}. "
    return table(("number", "name", "payload"), rows) + (
        f"\n\n{about}Frames last `chunk_ms`, {frames.MIN_CHUNK_MS} … {frames.MAX_CHUNK_MS}; those of Opus 20 ms."
    )


def _words(head: Sequence[str], words: Mapping[Any, str]) -> str:
    return table(head, [(code(name), text) for name, text in words.items()])


# -- OSC ---------------------------------------------------------------------------------------------------------------

OSC_ASKED = {
    "prompt": ("s", "slot 1 alone plays this, with weight 1; without argument, asks"),
    **{str(action): ("none, or 1", f"{text}; 0, a button's release, is ignored") for action, text in ACTIONS.items()},
    "transport/play": ("i or f: 0 or 1", "a light of the sender's own transport, which the session's follows"),
    "transport/pause": ("i or f: 0 or 1", "the same"),
    "transport/stop": ("i or f: 0 or 1", "the same; each may come alone: where stop and play differ, it is known"),
    "rack": ("none", "answered with how many slots, then the number and the name of each, in the order of the signal"),
    "rack/effects": ("none", "answered with how many effects there are, then their names"),
    "rack/add": ("s effect, or s effect, i place", "puts an effect into the rack, at the end or at a place from 0"),
    "rack/remove": ("i slot", "takes it out"),
    "rack/replace": ("i slot, s effect", "lets another effect take a slot over"),
    "rack/move": ("i slot, i place", "moves it"),
    "rack/save": ("i slot, s name", "saves a plugin's own preset in the operator's folder"),
    "rack/load": ("i slot, s name", "brings it back"),
    "presets": ("none", "answered with how many presets there are, then their names"),
    "preset/save": ("s name", "saves the whole set in the operator's folder"),
    "preset/recall": ("s name, or s name, f seconds", "brings it back, over so many seconds"),
    "keep": ("none, or f seconds", "writes what was heard last, 30 seconds of it, into the operator's folder"),
    "subscribe": ("none, i port, or i port, i ms", "be told of every change, meters, statistics, a heartbeat"),
    "unsubscribe": ("none, or i port", "be told no more"),
    "audio/subscribe": ("none, or i port", "be sent the sound, see [below](#sound-over-osc)"),
    "audio/unsubscribe": ("none, or i port", "be sent it no more"),
    "refresh": ("none, or 1", "be sent every parameter once"),
    "ping": ("none, or anything", "answered with `ping 1`, or `pong` and the argument"),
    "version": ("none", "answered with the version of streamgen"),
    "token": ("s", "prove the right to be here; once an hour, for each host"),
    "playing": ("none", "answered with 1 or 0"),
    "heard": ("none", "answered with what the model understands of the prompts"),
    "state": ("none", "answered with what the player does"),
}
OSC_TOLD = {
    "error": ("s address, s text", "what was refused, and why: to its sender, and to the port that it has subscribed"),
    "guard": ("s", "the music had died, and begins anew"),
    "part": ("s", "another part of the scene begins, see `arrange`"),
    "kept": ("s", "a take was written: its name"),
    "unsupported": ("s", "what was set, though the checkpoint was not made for it"),
    "heartbeat": ("i", "once a second: 1 while it plays"),
    "beat": (
        "i beat, i bar, f tempo, f phase",
        "a beat, when it comes: numbers from 0, bpm, and by how many beats the music's own bar is ahead",
    ),
    "meter": ("f left, f right", "peaks in dBFS, 20 times a second at most"),
    "bands": (
        f"{len(BANDS_HZ)} f",
        f"with each `meter`: dBFS of the octaves around {', '.join(f'{hz:,}' for hz in BANDS_HZ)} Hz, both channels",
    ),
    "onset": ("f strength", "something is struck, when it sounds: 0 … 1 against the last seconds"),
    "pong": ("as asked", "see `ping`"),
    "audio": ("i, i, i, b", "the sound, see [below](#sound-over-osc)"),
    "subscribed": ("i port, i ms", "the answer to `subscribe`"),
    "unsubscribed": ("s", "a subscription has ended: no message came"),
    "goaway": ("s", "the service ends"),
    "rack/fault": ("i slot, s name, s reason, i strikes, i given up", "an effect failed; without a reason, it is back"),
    "stats/…": (
        "one value",
        "statistics, an address each, once a second; `stats/slot/N`: load, latency in seconds, strikes, failed",
    ),
}


def osc_parameters() -> str:
    """The addresses of parameters."""
    letters = {"string": "s", "float": "f", "int": "i", "bool": "i"}
    rows = []
    for name, spec in session_table().items():
        norm = code(f"{namespace.PREFIX}{name}/norm") if spec.has_range else ""
        rows.append((code(namespace.PREFIX + name), letters[spec.type], spec.in_words, norm))
    return table(("address", "type", "takes", "0 … 1 over its range"), rows)


def _addresses(words: Mapping[str, tuple[str, str]], head: Sequence[str]) -> str:
    return table(head, [(code(namespace.PREFIX + word), kind, text) for word, (kind, text) in words.items()])


# -- HTTP and metrics --------------------------------------------------------------------------------------------------

HTTP = {
    "/": ("free", "the page to who asks for `text/html`; the whole OSCQuery tree to all others"),
    "/healthz": ("free", '200 `{"status": "ok", "listeners": 2}`, or 503 with the reason'),
    "/metrics": ("token", "[metrics](metrics.md) in Prometheus' text format"),
    oscquery.ROOT: ("token", "the OSC namespace as JSON; below it, every address"),
    "/…?HOST_INFO": ("token", "where OSC and the WebSocket are"),
    said_over_websocket.PATH: ("token", "the [WebSocket](websocket.md)"),
    "/ws/google.ai.generativelanguage.VERSION.GenerativeService.BidiGenerateMusic": (
        "token, as key",
        "a WebSocket for [Lyria's clients](../howto/lyria.md)",
    ),
    **{
        f"{radio.PATH}{codec.suffix}": ("token", f"`{codec.kind}` without end: [radio](../howto/radio.md)")
        for codec in encoders.CODECS.values()
    },
    **{f"{radio.PATH}{suffix}": ("token", "a playlist with the MP3's address") for suffix in radio.PLAYLISTS},
    SDP_PATH: ("token", "`application/sdp`: where [RTP](../howto/daw.md#by-network) is sent, with `--rtp`"),
}


def _of_device(door: str, device: str, late: str, told: str) -> dict[str, str]:
    """What a door counts that plays at a device."""
    counted = {
        "playing": f"1 while {device} is open, 0 while it is looked for",
        "reopened_total": f"times {device} came back",
        "lost_seconds_total": f"of audio while there was no {device.removeprefix('the ')}",
        "delay_seconds": "from due to heard, the device's latency included",
        "starvations_total": f"times {device} found nothing to play",
        "starved_seconds_total": "silence that came of it",
        late: told,
        "jumps_total": "times audio was skipped or filled to be on time",
        "dropped_blocks_total": "that found no room",
        "error_seconds": "heard too late, mean of the newest blocks",
        "drift_ppm": "correction made to the device's clock",
    }
    return {f"{door}_{name}": about for name, about in counted.items()}


COUNTED = {
    "osc_audio_listeners": "subscribers of audio",
    "osc_connections": "TCP connections",
    "osc_messages_total": "messages understood well enough to have an address",
    "osc_late_total": "bundles whose time had passed",
    "osc_scheduled_total": "commands handed to the session for a time",
    "osc_sent_total": "packets sent, audio not counted",
    "osc_audio_packets_total": "audio packets sent",
    "radio_encoders": "codecs that somebody listens in",
    "radio_sources": "Icecast mounts that are streamed to now",
    "discovery_services": "what is announced by multicast DNS",
    "websocket_connections": "TCP connections, those of HTTP included",
    "link_peers": "others in the Link session",
    "link_tempo_changes_total": "tempi that it went to, the first included",
    "link_audio_messages_total": "pieces of Link Audio that were due while somebody listened",
    "midi_ports": "inputs that are open, one's own included",
    "midi_messages_total": "messages that came in, clocks included",
    "midi_lost_messages_total": "messages that came faster than they can be read",
    "udp_receivers": "who is sent ReaStream or RTP",
    "udp_packets_total": "of both that were sent",
    **_of_device("sound", "the device", "late_callbacks_total", "that the sound system told of"),
    **_of_device("jack", "JACK", "xruns_total", "that JACK told of"),
    "jack_connections": "of our two outputs",
}


def http() -> str:
    """The paths of the HTTP port."""
    rows = [(code(path), *words) for path, words in HTTP.items()]
    rows.append((", ".join(map(code, sorted(set(read_page(WEB_ROOT)) - {"/"}))), "free", "the page's files"))
    return table(("path", "asks for", "answers"), rows)


def metrics() -> str:
    """Every name that /metrics shows."""
    counted = _counted()
    rows = []
    for family in counted.collect():
        ending = "_total" if family.type == "counter" else ""
        labels = ", ".join(code(label) for label in getattr(family, "_labelnames", ()))
        name = family.name + ending
        about = family.documentation
        if about.startswith("as the door"):
            about = COUNTED[name.removeprefix("streamgen_")]
        rows.append((code(name), family.type, labels, about))
    return table(("name", "kind", "label", "is"), rows)


def _counted() -> Metrics:
    """Return metrics of doors that were made and never opened."""
    counted = Metrics()
    service = Service(Settings(soundcard=False), Access(), counted)
    sound = SoundCardDoor(service)
    jack = JackDoor(service)
    sound._wanted = jack._wanted = True  # as if there were a device: a door without has nothing to count
    for door in (
        OscDoor(service),
        NativeDoor(service),
        LinkDoor(service),
        MidiDoor(service),
        radio.RadioDoor(service),
        LyriaDoor(service),
        UdpDoor(service),
        DiscoveryDoor(service),
        sound,
        jack,
    ):
        counted.doors[door.name] = door.stats
    return counted


# -- Python ------------------------------------------------------------------------------------------------------------


STEPWISE = ("frames_done", "begin_step", "finish_step", "missing_frames", "decode_until", "take")
"""What of a stream is the scheduler's, not a user's."""


def python() -> str:
    """The public names of `streamgen`, from their docstrings."""
    functions, classes, errors = [], [], []
    for name in streamgen.__all__:
        thing = getattr(streamgen, name)
        if inspect.isfunction(thing):
            functions.append(_callable(name, thing, "##"))
        elif issubclass(thing, Exception):
            errors.append((code(name), code(thing.__bases__[0].__name__), _summary(thing)))
        else:
            classes.append(_class(name, thing))
    errors_table = table(("error", "is a", "when"), errors)
    return "\n\n".join([*functions, *classes, "## Errors\n\n" + errors_table])


def _class(name: str, thing: type) -> str:
    parts = [f"## {name}", _docstring(thing)]
    if dataclasses.is_dataclass(thing):
        members = [field.name for field in fields(thing)]
        parts.append(f"Fields: {', '.join(map(code, members))}.")
    for word, member in _members(thing).items():
        if word.startswith("_") or word in STEPWISE:
            continue
        if isinstance(member, property):
            parts.append(f"### {name}.{word}\n\nA property. {inspect.getdoc(member)}")
        elif isinstance(member, classmethod):
            parts.append(_callable(f"{name}.{word}", getattr(thing, word), "###"))
        elif inspect.isfunction(member):
            parts.append(_callable(f"{name}.{word}", member, "###"))
    return "\n\n".join(parts)


def _members(thing: type) -> dict[str, Any]:
    """Return what a class has, and then what it has from our other classes."""
    ours = [base for base in thing.__mro__ if base.__module__.startswith("streamgen.")]
    return {
        word: member for base in ours for word, member in vars(base).items() if vars(thing).get(word, member) is member
    }


def _callable(name: str, thing: Callable[..., Any], heading: str) -> str:
    return f"{heading} {name}\n\n```python\n{_signature(name, thing)}\n```\n\n{_docstring(thing)}"


def _signature(name: str, thing: Callable[..., Any]) -> str:
    signature = inspect.signature(thing)
    words, star = [], False
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        words.append(_parameter(one))
    name, gives = name.split(".")[-1], str(signature.return_annotation)
    line = f"{name}({', '.join(words)}) -> {gives}"
    if len(line) <= 88:
        return line
    return "\n".join((f"{name}(", *(f"    {word}," for word in words), f") -> {gives}"))


def _parameter(one: inspect.Parameter) -> str:
    """Return a parameter as it was written: annotations are texts here, and need no quotes; defaults keep theirs."""
    stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{stars}{one.name}: {one.annotation}{default}"


_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Source")


def _summary(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _docstring(thing: object) -> str:
    """Return a docstring of Google's style as markdown."""
    out = []
    for name, body in _sections(thing):
        if not name:
            out.append(body)
        elif name in ("Returns", "Source"):
            out.append(f"**{name}** {' '.join(body.split())}")
        else:
            entries = "\n".join(f"- {', '.join(map(code, names))}: {text}" for names, text in _entries(body).items())
            out.append(f"**{name}**\n\n{entries}")
    return "\n\n".join(out)


def _sections(thing: object) -> list[tuple[str, str]]:
    """Take a docstring apart: (section, its text), the text before them first, under no name."""
    head = "|".join(_SECTIONS)
    parts = re.split(rf"^({head}):[ \n]", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return [
        ("", parts[0].strip()),
        *((name, inspect.cleandoc("\n" + body)) for name, body in zip(parts[1::2], parts[2::2], strict=True)),
    ]


def _entries(body: str) -> dict[tuple[str, ...], str]:
    """Take `name, name: text` apart; lines that are set in go on with the text."""
    found: dict[tuple[str, ...], str] = {}
    for entry in re.split(r"\n(?! )", body):
        names, _, text = entry.partition(":")
        found[tuple(name.strip() for name in names.split(","))] = " ".join(text.split())
    return found


def _attributes(thing: type) -> dict[tuple[str, ...], str]:
    (body,) = [body for name, body in _sections(thing) if name == "Attributes"]
    return _entries(body)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "controls": controls,
    "settings": settings,
    "commands": commands,
    "requests": requests,
    "answers": answers,
    "answer-fields": answer_fields,
    "actions": partial(_words, ("action", "does"), ACTIONS),
    "states": partial(_words, ("state", "means"), STATES),
    "header": header,
    "codecs": codec_table,
    "close-codes": partial(_words, ("code", "means"), CLOSE_CODES),
    "error-codes": partial(_words, ("code", "means"), ERROR_CODES),
    "limits": limits,
    "osc-parameters": osc_parameters,
    "osc-asked": partial(_addresses, OSC_ASKED, ("address", "arguments", "does")),
    "osc-told": partial(_addresses, OSC_TOLD, ("address", "arguments", "says")),
    "osc-limits": osc_limits,
    "http": http,
    "metrics": metrics,
    "python": python,
}
"""Every table by the name that pages want it by."""
