"""What addresses mean: every parameter of the table, every service, every refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bridge.doors.osc.codec import IMPULSE, Argument, Message, OscError, decode
from bridge.doors.osc.namespace import (
    EFFECTS,
    PRESETS,
    RACK,
    STATES,
    Assign,
    Ignored,
    Login,
    Namespace,
    Query,
    Subscribe,
    SubscribeAudio,
)
from bridge.session.commands import Action, EditRack, KeepTake, RackAction, RecallPreset, SavePreset, Transport
from bridge.session.parameters import Parameters, session_table
from streamgen.config import number

TABLE = session_table()
SPACE = Namespace(TABLE)


def requests(address: str, *arguments: object) -> list[object]:
    return list(SPACE.interpret(Message(address, arguments)))  # type: ignore[arg-type]


def shown(address: str, values: dict[str, object]) -> tuple[object, ...]:
    packet = SPACE.reading(address, values)  # type: ignore[arg-type]
    assert packet is not None
    (message,) = decode(packet)
    assert message.address == address
    return message.arguments


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_is_queried_set_and_read(name: str) -> None:
    address, value = f"/streamgen/{name}", TABLE[name].default
    assert requests(address) == requests(address, IMPULSE) == [Query(address)]
    assert requests(address, value) == [Assign({name: value}, (address,))]
    assert shown(address, Parameters(TABLE).defaults) == (value,)


def test_a_second_number_is_how_long_it_takes_to_get_there() -> None:
    assert requests("/streamgen/gain_db", -6.0, 2) == [Assign({"gain_db": -6.0}, ("/streamgen/gain_db",), 2.0)]
    assert requests("/streamgen/gain_db", -6.0, 0) == requests("/streamgen/gain_db", -6.0)
    (norm,) = requests("/streamgen/gain_db/norm", 1.0, 2.5)
    assert isinstance(norm, Assign)
    assert norm.glide_seconds == 2.5
    first, second = Assign({"a": 1}, ("a",), 1.0), Assign({"b": 1}, ("b",))
    assert not first.goes_with(second)
    (many,) = requests("/streamgen/prompt/*/weight", 0.0, 3.0)
    assert isinstance(many, Assign)
    assert (len(many.values), many.glide_seconds) == (8, 3.0)


@pytest.mark.parametrize(
    ("address", "arguments", "request_"),
    [
        ("rack", (), Query(RACK)),
        ("rack/effects", (), Query(EFFECTS)),
        ("presets", (), Query(PRESETS)),
        ("rack", (1, 1, "reverb"), Ignored()),
        ("presets", (0,), Ignored()),
        ("rack/fault", (1, "a", "b", 1, 0), Ignored()),
        ("rack/add", ("reverb",), EditRack(RackAction.ADD, "", effect="reverb")),
        ("rack/add", ("reverb", 0), EditRack(RackAction.ADD, "", effect="reverb", index=0)),
        ("rack/remove", (3.0,), EditRack(RackAction.REMOVE, "", 3)),
        ("rack/replace", (3, "tilt"), EditRack(RackAction.REPLACE, "", 3, "tilt")),
        ("rack/move", (3, 1), EditRack(RackAction.MOVE, "", 3, index=1)),
        ("rack/save", (3, "hall"), SavePreset("hall", "", 3)),
        ("rack/load", (3, "hall"), RecallPreset("hall", "", slot=3)),
        ("preset/save", ("a set",), SavePreset("a set", "")),
        ("preset/recall", ("a set",), RecallPreset("a set", "")),
        ("preset/recall", ("a set", 8), RecallPreset("a set", "", 8.0)),
        ("keep", (), KeepTake("", 30.0)),
        ("keep", (12,), KeepTake("", 12.0)),
        ("kept", ("take-1.flac",), Ignored()),
    ],
)
def test_the_rack_and_presets(address: str, arguments: tuple[object, ...], request_: object) -> None:
    assert requests(f"/streamgen/{address}", *arguments) == [request_]


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.has_range])
def test_norm_covers_the_range_and_reads_back(name: str) -> None:
    row, address = TABLE[name], f"/streamgen/{name}/norm"
    for position, value in zip((0.0, 1), row.limits, strict=True):
        assert requests(address, position) == [Assign({name: value}, (address,))]
        assert shown(address, {name: value}) == (float(position),)
    with pytest.raises(OscError, match="must be within 0 … 1"):
        requests(address, 1.01)
    with pytest.raises(OscError, match="must be a number"):
        requests(address, "half")


@pytest.mark.parametrize(
    ("address", "arguments", "value"),
    [
        ("top_k", (123.4,), 123),  # TouchOSC, Pd and SuperCollider send everything as a float
        ("top_k", ("123.6",), 124),  # TouchDesigner, Node-RED and FreeShow as a text
        ("temperature", (" 1.2 ",), 1.2),
        ("temperature/norm", (1.0000001192092896,), 5.0),  # what float32 made of 1 on its way through two programs
        ("temperature/norm", (-1e-7,), 0.0),
        ("temperature/norm", ("0.5",), 2.5),
        ("mute", (0.7,), True),
        ("mute", ("off",), False),
        ("prompt/2/text", ("solo", "piano"), "solo piano"),  # Max, Pd and Companion a word at a time
        ("prompt/2/text", ("house", 125, "bpm", 1.5), "house 125 bpm 1.5"),
        ("negative_prompt", ("drums", "bass"), "drums bass"),
    ],
)
def test_controllers_are_understood(address: str, arguments: tuple[Argument, ...], value: object) -> None:
    (request,) = requests(f"/streamgen/{address}", *arguments)
    assert isinstance(request, Assign)
    assert dict(request.values) == {address.removesuffix("/norm"): value}


def test_words_of_the_short_prompt_join_too() -> None:
    (request,) = requests("/streamgen/prompt", "solo", "piano", 80)
    assert isinstance(request, Assign)
    assert request.values["prompt/1/text"] == "solo piano 80"


@pytest.mark.parametrize(
    ("address", "value", "words"),
    [
        ("temperature", "12", r"temperature is 12\.0, must be within 0 … 5"),
        ("temperature", "warm", "temperature is 'warm', must be a number within 0 … 5"),
        ("top_k", math.nan, "top_k is nan"),
        ("top_k", math.inf, "top_k is inf"),
        ("temperature/norm", math.nan, "temperature/norm is nan"),
    ],
)
def test_what_is_refused_does_not_contradict_itself(address: str, value: Argument, words: str) -> None:
    with pytest.raises(OscError, match=words):
        requests(f"/streamgen/{address}", value)


def test_texts_have_no_norm() -> None:
    with pytest.raises(OscError, match="there is no address"):
        requests("/streamgen/negative_prompt/norm", 0.5)


def test_prompt_is_slot_one_alone() -> None:
    (request,) = requests("/streamgen/prompt", "techno")
    weights = {f"prompt/{slot}/weight": float(slot == 1) for slot in range(1, 9)}
    assert request == Assign({"prompt/1/text": "techno", **weights}, ("/streamgen/prompt",))
    assert requests("/streamgen/prompt") == [Query("/streamgen/prompt")]
    assert shown("/streamgen/prompt", {"prompt/1/text": "techno"}) == ("techno",)


@pytest.mark.parametrize("value", [5, 5.0, True])
def test_numbers_of_any_type_are_alike(value: object) -> None:
    (request,) = requests("/streamgen/seed", value)
    assert request == Assign({"seed": int(value)}, ("/streamgen/seed",))  # type: ignore[call-overload]


@pytest.mark.parametrize("action", Action)
def test_transport_takes_nothing_or_one_and_ignores_a_release(action: Action) -> None:
    address = f"/streamgen/{action}"
    for arguments in ((), (1,), (1.0,), (True,), (127,), (IMPULSE,)):
        assert requests(address, *arguments) == [Transport(action, "")]
    for zero in (0, 0.0, False):
        assert requests(address, zero) == [Ignored()]
    for wrong in (0.5, "now", None):
        with pytest.raises(OscError):
            requests(address, wrong)


def test_services() -> None:
    assert requests("/streamgen/subscribe", 9000) == [Subscribe(True, 9000, None)]
    assert requests("/streamgen/subscribe", 9000.0, 100) == [Subscribe(True, 9000, 100)]
    assert requests("/streamgen/subscribe") == [Subscribe(True)]
    assert requests("/streamgen/unsubscribe", 9000) == [Subscribe(False, 9000)]
    assert requests("/streamgen/audio/subscribe", 9001) == [SubscribeAudio(True, 9001)]
    assert requests("/streamgen/audio/unsubscribe") == [SubscribeAudio(False)]
    assert requests("/streamgen/token", "secret") == [Login("secret")]
    assert requests("/streamgen/ping", 4) == [Query("ping", (4,))]
    assert requests("/streamgen/version") == [Query("version")]
    assert requests("/streamgen/refresh", 1.0) == [Query("refresh")]
    assert requests("/streamgen/refresh", 0.0) == [Ignored()]
    for address in ("/streamgen/playing", "/streamgen/state"):
        assert address in STATES
        assert requests(address) == [Query(address)]


@pytest.mark.parametrize(
    "word", ["error", "heartbeat", "meter", "bands", "onset", "pong", "audio", "stats/underruns", "subscribed"]
)
def test_what_the_server_sends_is_ignored_when_it_comes_back(word: str) -> None:
    assert requests(f"/streamgen/{word}", 1, "x") == [Ignored()]
    assert requests("/streamgen/version", "1.0") == requests("/streamgen/playing", 1) == [Ignored()]
    assert requests("/streamgen/state", "paused") == [Ignored()]


def test_patterns_mean_parameters_only() -> None:
    asked = requests("/streamgen/*")
    assert Transport(Action.STOP, "") not in asked
    assert asked == [Query(f"/streamgen/{name}") for name in TABLE if "/" not in name]
    (request,) = requests("/streamgen/prompt/[2-8]/weight", 0.0)
    assert request.values == {f"prompt/{slot}/weight": 0.0 for slot in range(2, 9)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "arguments", "reason", "text"),
    [
        ("/streamgen/tempoo", (1,), "unknown_address", "no address '/streamgen/tempoo'"),
        ("/other/tempo", (1,), "unknown_address", "no address"),
        ("/streamgen/x*", (), "unknown_address", "no parameter"),
        ("/streamgen/tempo", (301,), "value", "tempo is 301, must be within 0 … 300 bpm"),
        ("/streamgen/tempo", ("fast",), "value", "tempo is 'fast'"),
        ("/streamgen/tempo", (1, 2, 3), "type", "3 arguments"),
        ("/streamgen/tempo", (1, 61), "value", "glide_seconds is 61"),
        ("/streamgen/rack/add", (), "type", "an effect's name"),
        ("/streamgen/rack/add", (3,), "type", "an effect's name"),
        ("/streamgen/rack/add", ("reverb", 16), "type", "index is 16"),
        ("/streamgen/rack/remove", (0,), "type", "slot is 0"),
        ("/streamgen/rack/remove", ("reverb",), "type", "a slot's number"),
        ("/streamgen/rack/replace", (1,), "type", "an effect's name"),
        ("/streamgen/rack/move", (1, 0.5), "type", "index is 0.5"),
        ("/streamgen/rack/nothing", (1,), "unknown_address", "no address"),
        ("/streamgen/preset/save", (), "type", "must have its name"),
        ("/streamgen/preset/save", ("a", 1), "type", "must have its name"),
        ("/streamgen/preset/recall", ("a", -1.0), "value", "seconds is -1"),
        ("/streamgen/preset/recall", ("a", None), "value", "seconds is None"),
        ("/streamgen/tempo", (b"x" * 60_000,), "type", "is a blob"),
        ("/streamgen/tempo", (None,), "type", "is a nil"),
        ("/streamgen/tempo", ((1, 2, 3, 4),), "type", "is a time or MIDI message"),
        ("/streamgen/temperature", (float("1e30"),), "value", "must be within"),
        ("/streamgen/prompt", (3,), "value", "must be a text"),
        ("/streamgen/prompt", ("x" * 2001,), "value", "limit is 2,000"),
        ("/streamgen/subscribe", (0,), "type", "port is 0"),
        ("/streamgen/subscribe", (65_536,), "type", "port is 65536"),
        ("/streamgen/subscribe", (9000, 5), "type", "ms is 5"),
        ("/streamgen/subscribe", (9000, 50, 1), "type", "3 arguments"),
        ("/streamgen/subscribe", ("host",), "type", "port is 'host'"),
        ("/streamgen/token", (5,), "type", "must be a text"),
    ],
)
def test_refused(address: str, arguments: tuple[object, ...], reason: str, text: str) -> None:
    with pytest.raises(OscError) as caught:
        requests(address, *arguments)
    assert (caught.value.reason, caught.value.address) == (reason, address)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_that_shows_a_parameter() -> None:
    assert SPACE.addresses_of("tempo") == ("/streamgen/tempo", "/streamgen/tempo/norm")
    assert SPACE.addresses_of("negative_prompt") == ("/streamgen/negative_prompt",)
    assert SPACE.addresses_of("prompt/1/text") == ("/streamgen/prompt/1/text", "/streamgen/prompt")
    assert {address for name in TABLE for address in SPACE.addresses_of(name)} == set(SPACE.readable)


def test_the_models_own_range_is_the_range() -> None:
    """Of two sessions each has its table: guidance of a distilled model is not another's."""
    spec = replace(number(0, 2, 1, "", "of this model"), name="guidance_scale")
    own = Namespace({**TABLE, "guidance_scale": spec})
    assert own.interpret(Message("/streamgen/guidance_scale/norm", (0.5,))) == [
        Assign({"guidance_scale": 1.0}, ("/streamgen/guidance_scale/norm",))
    ]
    with pytest.raises(OscError, match="must be within 0 … 2"):
        own.interpret(Message("/streamgen/guidance_scale", (3.0,)))
    assert requests("/streamgen/guidance_scale", 3.0) == [
        Assign({"guidance_scale": 3.0}, ("/streamgen/guidance_scale",))
    ]


def test_parameters_come_and_go() -> None:
    space, plugin = Namespace(TABLE), replace(number(0, 10, 5, "dB", "of a plugin"), name="plugin/1/drive")
    drive = Message("/streamgen/plugin/1/drive", (2.0,))
    with pytest.raises(OscError, match="there is no address"):
        space.interpret(drive)
    space.rebuild({**TABLE, plugin.name: plugin})
    assert space.interpret(drive) == [Assign({"plugin/1/drive": 2.0}, ("/streamgen/plugin/1/drive",))]
    (set_by_pattern,) = space.interpret(Message("/streamgen/plugin/*/drive/norm", (0.5,)))
    assert set_by_pattern == Assign({"plugin/1/drive": 5.0}, ("/streamgen/plugin/1/drive/norm",))
    assert space.addresses_of(plugin.name) == ("/streamgen/plugin/1/drive", "/streamgen/plugin/1/drive/norm")
    assert set(space.addresses_of(plugin.name)) <= set(space.readable)
    space.rebuild(TABLE)
    with pytest.raises(OscError, match="there is no address"):
        space.interpret(drive)
    assert space.reading("/streamgen/plugin/1/drive", {plugin.name: 2.0}) is None
    assert space.addresses_of(plugin.name) == ()
    space.rebuild({**TABLE, plugin.name: plugin})
    assert space.reading("/streamgen/plugin/1/drive", {}) is None, "its value has gone"


def test_changes_become_one_and_the_later_holds() -> None:
    one, two = Assign({"tempo": 1.0, "seed": 2}, ("/a", "/b")), Assign({"tempo": 3.0}, ("/a", "/c"))
    assert one.merged(two) == Assign({"tempo": 3.0, "seed": 2}, ("/a", "/b", "/c"))
