"""What the operator sets: one typed table, from which come the options, the file's keys, the help and the docs.

    command line ─► what was said ─┐
    TOML file    ─► its keys      ─┼─► Settings      what was said beats the file, the file beats the default: by who
    the table    ─► its defaults  ─┘                 says it, not by what it says

A setting is one line of `Settings`: type, limits, default, unit, description. What shapes the music is not repeated
here: the session's table has its rows, and each is an option and a key as well.

Rules: no torch, no argparse, no socket; the one file that is read is the operator's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bridge.audio.master import master_default
from bridge.disk import read_toml
from bridge.errors import UsageError, cannot_be
from bridge.session.parameters import session_table
from streamgen.config import CONTROLS, PRECISIONS, THREADS, ControlSpec, Value, number, switch, text
from streamgen.errors import StreamgenError, quoted

__all__ = ["OPTIONS", "Option", "Row", "Settings", "metavar", "music_default", "music_table", "reference", "takes"]


@dataclass(frozen=True)
class Option:
    """How a setting is said.

    Attributes:
        spec: type, limits and description; its name is the setting's, and the file's key.
        group: under which heading the help has it.
        metavar: what stands for its value in the help; "" for a switch.
        unset: what happens where nobody says it, in words; "" where the default is a value.
        many: it may be said more than once.
        path: it names a file or a folder, as `metavar` says.
        listens: which door listens at this port; "" for what is no port.
        protocols: in which ways it does.
    """

    spec: ControlSpec
    group: str
    metavar: str = ""
    unset: str = ""
    many: bool = False
    path: bool = False
    listens: str = ""
    protocols: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The option's name on the command line."""
        return "--" + self.spec.name.replace("_", "-")

    @property
    def default(self) -> Any:
        """The value where nobody says one."""
        if self.many:
            return ()
        return None if self.unset else self.spec.default

    @property
    def default_in_words(self) -> str:
        """The same for people."""
        if self.many or self.spec.default == "":
            return self.unset or "none"
        return self.unset or _in_words(self.spec.default)

    @property
    def takes(self) -> str:
        """What values it takes, in words."""
        return f"a {self.metavar.lower()}" if self.path else takes(self.spec)

    def check(self, value: object) -> Any:
        """Return a value in the setting's type.

        Raises:
            ConfigError, PromptError: it is of another type or outside the limits.
        """
        if self.many:
            return tuple(self.spec.check(one) for one in (value if isinstance(value, list | tuple) else [value]))
        return Path(str(self.spec.check(value))) if self.path else self.spec.check(value)


def _setting(spec: ControlSpec, group: str, metavar: str = "", **more: Any) -> Any:
    """Make the field of a setting."""
    option = Option(spec, group, metavar, **more)
    return field(default=option.default, metadata={"option": option})


def _port(default: int, description: str, listens: str, *protocols: str) -> Any:
    spec = number(0, 65_535, default, "", description, whole=True)
    return _setting(spec, "service", "N", listens=listens, protocols=protocols)


@dataclass(frozen=True)
class Settings:
    """The settings of one run; `serve` has them all, other commands some.

    Attributes:
        music: parameters of the session `live` that the file or the command line names.
        said: names that the command line said.
    """

    prompt: str = _setting(
        text("what the session begins with", "lofi hip hop, electric piano, drums, 94 bpm"), "service", "TEXT"
    )
    host: str = _setting(text("address to bind; this machine only, unless said otherwise", "127.0.0.1"), "service", "H")
    port: int = _port(8711, "page, WebSocket, HTTP", "the page", "tcp")
    osc_port: int = _port(8712, "OSC, UDP and TCP", "OSC", "udp", "tcp")
    osc_target: tuple[str, ...] = _setting(
        text("a program that never subscribes, to be told everything by OSC"), "service", "HOST:PORT", many=True
    )
    icecast: tuple[str, ...] = _setting(
        text("Icecast mount to stream to: http://source:PASSWORD@HOST:8000/live.ogg"), "service", "URL", many=True
    )
    announce: bool = _setting(switch(False, "let programs on the network find the page, OSC and OSCQuery"), "service")
    token: str = _setting(text("what clients must show; needed where --host lets others in"), "service", "SECRET")
    insecure: bool = _setting(switch(False, "let other machines in without a token"), "service")
    allow_origin: tuple[str, ...] = _setting(text("web pages that may connect"), "service", "URL", many=True)
    midi: tuple[str, ...] = _setting(
        text("MIDI ports to be steered from, by a part of their names; all is every one"),
        "service",
        "NAME",
        many=True,
    )
    midi_clock: str = _setting(
        text("follow the clock of those ports, or send ours to them", "off", choices=("off", "in", "out")),
        "service",
        "C",
    )
    link: bool = _setting(switch(False, "join Ableton Link: beats, tempo, start and stop are the room's"), "service")
    link_interface: str | None = _setting(
        text("this machine's address in the network where Link is joined"),
        "service",
        "ADDRESS",
        unset="where multicast goes out",
    )
    reastream: tuple[str, ...] = _setting(
        text("send ReaStream to that machine, with the identifier streamgen"),
        "service",
        "HOST",
        many=True,
    )
    rtp: str = _setting(
        text("send RTP there, 24 bits, to port 5004 unless said otherwise; /rtp.sdp describes it"),
        "service",
        "HOST[:PORT]",
    )
    tls_cert: Path | None = _setting(
        text("certificate (PEM), for https and wss; `streamgen certificate` makes one"),
        "service", "FILE", path=True, unset="plain http",
    )  # fmt: skip
    tls_key: Path | None = _setting(
        text("the certificate's key (PEM)"), "service", "FILE", path=True, unset="in the certificate's file"
    )
    record: Path | None = _setting(
        text("record the output: .flac or .wav"), "service", "FILE", path=True, unset="no recording"
    )
    state: Path | None = _setting(
        text("where prompts, knobs and transport are kept for the next start"),
        "service", "FILE", path=True, unset="one for each port, in your state folder; none for port 0",
    )  # fmt: skip
    scene: Path | None = _setting(
        text("the parts that `arrange` plays, in TOML; implies --arrange"),
        "service",
        "FILE",
        path=True,
        unset="the shipped one",
    )
    fresh: bool = _setting(switch(False, "start anew, whatever was kept"), "service")
    rack: Path | None = _setting(
        text("effects to begin with, and names for your plugins"), "sound", "FILE", path=True, unset="none"
    )
    presets: Path | None = _setting(
        text("where presets are saved and recalled"), "service", "FOLDER", path=True, unset="one in your state folder"
    )
    takes: Path | None = _setting(
        text("where Keep writes what was just heard"),
        "service", "FOLDER", path=True, unset="one in your state folder",
    )  # fmt: skip
    soundcard: bool = _setting(switch(True, "play here, if there is a sound device"), "sound")
    output: str | None = _setting(
        text("sound device: its number, a part of its name, or API: NAME"), "sound", "NAME", unset="the system's"
    )
    latency: float = _setting(
        number(0.01, 1, 0.12, "s", "asked of the sound device; a sound server may add to it"), "sound", "S"
    )
    jack: bool = _setting(switch(False, "be a client of JACK, or of PipeWire, named streamgen"), "sound")
    jack_connect: str = _setting(
        text("JACK inputs to connect to, by a part of their name, such as system; implies --jack"), "sound", "NAME"
    )
    jack_transport: str = _setting(
        text(
            "follow JACK's transport: beats, start, stop; or lead it; implies --jack",
            "off",
            choices=("off", "follow", "lead"),
        ),
        "sound",
        "T",
    )
    session_rate: int = _setting(
        number(32_000, 96_000, 48_000, "Hz", "samples a second, of everything that is heard", whole=True), "sound", "HZ"
    )
    model: str = _setting(
        text("pocket (shipped), a Hub id, or a folder; see `streamgen models`", "pocket"), "model", "NAME"
    )
    threads: int | None = _setting(
        replace(THREADS, description="of the processor"), "model", "N", unset="1 for a small model, else all"
    )
    device: str = _setting(text("auto, cpu, cuda, cuda:1, …", "auto"), "model", "D")
    precision: str = _setting(
        text("auto takes the best that is real time here", "auto", choices=PRECISIONS), "model", "P"
    )
    music: Mapping[str, Value] = field(default_factory=dict)
    said: frozenset[str] = frozenset()

    @property
    def wants_jack(self) -> bool:
        """Whether it is to be a client of JACK: what is said of it implies it."""
        return self.jack or bool(self.jack_connect) or self.jack_transport != "off"

    @classmethod
    def of(cls, said: Mapping[str, Any], file: Path | None = None) -> Settings:
        """Put together what the command line says, already checked, what a file says, and the defaults.

        Args:
            said: by name, settings and parameters of the music; other names are left alone.
            file: TOML, whose keys are the same names.

        Raises:
            UsageError: the file cannot be read, or says what cannot be.
        """
        table = music_table()
        said = _with_scene(said)
        found = _with_scene({} if file is None else _read(file, table)) | said
        return cls(
            **{name: found[name] for name in OPTIONS if name in found},
            music={name: found[name] for name in table if name in found},
            said=frozenset(name for name in said if name in OPTIONS or name in table),
        )


def _with_scene(said: Mapping[str, Any]) -> dict[str, Any]:
    """Whoever names a scene wants it played, unless told otherwise: else nothing would come of it, and nobody know."""
    return {"arrange": True, **said} if said.get("scene") is not None else dict(said)


def _options() -> dict[str, Option]:
    rows = {field_.name: field_.metadata["option"] for field_ in fields(Settings) if "option" in field_.metadata}
    return {name: replace(row, spec=replace(row.spec, name=name)) for name, row in rows.items()}


OPTIONS: dict[str, Option] = _options()
"""Every setting by name, as the table has them."""


def music_table() -> dict[str, ControlSpec]:
    """Return the rows of the session's table that are options and keys: those that a plain word names."""
    return {name: spec for name, spec in session_table().items() if "/" not in name}


# -- the file ----------------------------------------------------------------------------------------------------------


def _read(file: Path, table: Mapping[str, ControlSpec]) -> dict[str, Any]:
    try:
        keys = read_toml(file)
    except (OSError, ValueError) as error:
        raise UsageError(cannot_be("read", f"--config {str(file)!r}", error)) from error
    return dict(_setting_of(file, key, value, table) for key, value in keys.items())


def _setting_of(file: Path, key: str, value: object, table: Mapping[str, ControlSpec]) -> tuple[str, Any]:
    """Return a key's setting and its checked value."""
    name = key.replace("-", "_")
    positive = name.removeprefix("no_")
    if name not in OPTIONS and positive in OPTIONS and OPTIONS[positive].spec.type == "bool":
        name, value = positive, not _checked(file, positive, value, table)  # as the command line has it
    return name, _checked(file, name, value, table)


def _checked(file: Path, name: str, value: object, table: Mapping[str, ControlSpec]) -> Any:
    row: Option | ControlSpec | None = OPTIONS.get(name) or table.get(name)
    if row is None:
        near = difflib.get_close_matches(name, [*OPTIONS, *table], 1)
        remedy = f"do you mean {near[0]!r}?" if near else "`streamgen serve --help` names them all"
        raise UsageError(f"--config {str(file)!r}: {name} is {quoted(value)}, but there is no such setting; {remedy}")
    try:
        return row.check(value)
    except StreamgenError as error:
        default = row.default_in_words if isinstance(row, Option) else _in_words(row.default)
        raise UsageError(f"--config {str(file)!r}: {error}; change it there, or leave it out ({default})") from None


# -- the documentation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of the documentation's table.

    Attributes:
        option: as the command line has it, its value's place included.
        key: in the file.
        takes: what values it takes.
        default: where nobody says one.
        description: one line.
    """

    option: str
    key: str
    takes: str
    default: str
    description: str


def reference() -> list[Row]:
    """Return a row for every option and key of `serve`: the settings, then what shapes the music."""
    rows = [_row(option.spec, option.metavar, option.takes, option.default_in_words) for option in OPTIONS.values()]
    return rows + [_row(spec, metavar(spec), takes(spec), music_default(spec)) for spec in music_table().values()]


def _row(spec: ControlSpec, value: str, taken: str, default: str) -> Row:
    flag = "--" + spec.name.replace("_", "-")
    option = f"{flag}, --no-{flag[2:]}" if spec.type == "bool" else f"{flag} {value}"
    return Row(option, spec.name, taken, default, spec.description)


def takes(spec: ControlSpec) -> str:
    """Return what values a row takes, in words."""
    if spec.type == "bool":
        return "true or false"
    return spec.in_words if spec.has_range or spec.choices else "a text"


def metavar(spec: ControlSpec) -> str:
    """Return what stands for a value of the music in the help."""
    return {"int": "N", "float": "X", "string": "TEXT"}.get(spec.type, "")


def music_default(spec: ControlSpec) -> str:
    """Return what a parameter of the music is where nobody says it, in words: a checkpoint may have its own."""
    if spec.name == "seed":
        return "random"
    if spec.name == "master":
        return f"{spec.default}, with pocket {master_default('pocket')}"
    if spec.name == "arrange":
        return "off, with pocket on"
    models_own = spec.name in CONTROLS and spec.has_range
    return _in_words(spec.default) + (", or the model's" if models_own else "")


def _in_words(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value or "none"
