"""What addresses mean: every parameter of the table, every service, every refusal."""

from __future__ import annotations

import pytest

from bridge.doors.osc.codec import IMPULSE, Message, OscError, decode
from bridge.doors.osc.namespace import (
    READABLE,
    Act,
    Ask,
    Assign,
    Audio,
    Ignored,
    Login,
    Subscribe,
    addresses_of,
    interpret,
    reading,
)
from bridge.session.messages import ACTIONS
from bridge.session.parameters import TABLE, defaults


def wishes(address: str, *arguments: object) -> list[object]:
    return list(interpret(Message(address, arguments)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_is_queried_set_and_read(name: str) -> None:
    address, value = f"/streamgen/{name}", TABLE[name].default
    assert wishes(address) == wishes(address, IMPULSE) == [Ask(address)]
    assert wishes(address, value) == [Assign({name: value}, (address,))]
    (shown,) = decode(reading(address, defaults()))
    assert (shown.address, shown.arguments) == (address, (value,))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.min is not None])
def test_norm_covers_the_range_and_reads_back(name: str) -> None:
    row, address = TABLE[name], f"/streamgen/{name}/norm"
    for position, value in ((0.0, row.min), (1, row.max)):
        assert wishes(address, position) == [Assign({name: value}, (address,))]
        assert decode(reading(address, {name: value}))[0].arguments == (float(position),)
    with pytest.raises(OscError, match="must be within 0 … 1"):
        wishes(address, 1.01)
    with pytest.raises(OscError, match="must be a number"):
        wishes(address, "half")


def test_texts_have_no_norm() -> None:
    with pytest.raises(OscError, match="there is no address"):
        wishes("/streamgen/negative_prompt/norm", 0.5)


def test_prompt_is_slot_one_alone() -> None:
    (wish,) = wishes("/streamgen/prompt", "techno")
    weights = {f"prompt/{slot}/weight": float(slot == 1) for slot in range(1, 9)}
    assert wish == Assign({"prompt/1/text": "techno", **weights}, ("/streamgen/prompt",))
    assert wishes("/streamgen/prompt") == [Ask("/streamgen/prompt")]
    assert decode(reading("/streamgen/prompt", {"prompt/1/text": "techno"}))[0].arguments == ("techno",)


@pytest.mark.parametrize("value", [5, 5.0, True])
def test_numbers_of_any_type_are_alike(value: object) -> None:
    (wish,) = wishes("/streamgen/seed", value)
    assert wish == Assign({"seed": int(value)}, ("/streamgen/seed",))  # type: ignore[call-overload]


@pytest.mark.parametrize("action", ACTIONS)
def test_transport_takes_nothing_or_one_and_ignores_a_release(action: str) -> None:
    address = f"/streamgen/{action}"
    for arguments in ((), (1,), (1.0,), (True,), (IMPULSE,)):
        assert wishes(address, *arguments) == [Act(action)]
    for zero in (0, 0.0, False):
        assert wishes(address, zero) == [Ignored()]
    for wrong in (0.5, "now", None):
        with pytest.raises(OscError):
            wishes(address, wrong)


def test_services() -> None:
    assert wishes("/streamgen/subscribe", 9000) == [Subscribe(True, 9000, None)]
    assert wishes("/streamgen/subscribe", 9000.0, 100) == [Subscribe(True, 9000, 100)]
    assert wishes("/streamgen/subscribe") == [Subscribe(True)]
    assert wishes("/streamgen/unsubscribe", 9000) == [Subscribe(False, 9000)]
    assert wishes("/streamgen/audio/subscribe", 9001) == [Audio(True, 9001)]
    assert wishes("/streamgen/audio/unsubscribe") == [Audio(False)]
    assert wishes("/streamgen/token", "secret") == [Login("secret")]
    assert wishes("/streamgen/ping", 4) == [Ask("ping", (4,))]
    assert wishes("/streamgen/version") == [Ask("version")]
    assert wishes("/streamgen/refresh", 1.0) == [Ask("refresh")]
    assert wishes("/streamgen/refresh", 0.0) == [Ignored()]
    assert wishes("/streamgen/playing") == [Ask("/streamgen/playing")]


@pytest.mark.parametrize("word", ["error", "heartbeat", "meter", "pong", "audio", "stats/underruns", "subscribed"])
def test_what_the_server_sends_is_ignored_when_it_comes_back(word: str) -> None:
    assert wishes(f"/streamgen/{word}", 1, "x") == [Ignored()]
    assert wishes("/streamgen/version", "1.0") == wishes("/streamgen/playing", 1) == [Ignored()]


def test_patterns_mean_parameters_only() -> None:
    asked = wishes("/streamgen/*")
    assert Act("stop") not in asked
    assert asked == [Ask(f"/streamgen/{name}") for name in TABLE if "/" not in name]
    (wish,) = wishes("/streamgen/prompt/[2-8]/weight", 0.0)
    assert wish.values == {f"prompt/{slot}/weight": 0.0 for slot in range(2, 9)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "arguments", "reason", "text"),
    [
        ("/streamgen/tempoo", (1,), "unknown_address", "no address '/streamgen/tempoo'"),
        ("/other/tempo", (1,), "unknown_address", "no address"),
        ("/streamgen/x*", (), "unknown_address", "no parameter"),
        ("/streamgen/tempo", (301,), "value", "tempo is 301, must be within 0 … 300 bpm"),
        ("/streamgen/top_k", (3.5,), "value", "whole number"),
        ("/streamgen/tempo", ("fast",), "value", "tempo is 'fast'"),
        ("/streamgen/tempo", (1, 2), "type", "2 arguments"),
        ("/streamgen/tempo", (b"x" * 60_000,), "type", "is a blob"),
        ("/streamgen/tempo", (None,), "type", "is a nil"),
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
        wishes(address, *arguments)
    assert (caught.value.reason, caught.value.address) == (reason, address)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_that_shows_a_parameter() -> None:
    assert addresses_of("tempo") == ("/streamgen/tempo", "/streamgen/tempo/norm")
    assert addresses_of("negative_prompt") == ("/streamgen/negative_prompt",)
    assert addresses_of("prompt/1/text") == ("/streamgen/prompt/1/text", "/streamgen/prompt")
    assert {address for name in TABLE for address in addresses_of(name)} == set(READABLE)


def test_changes_become_one_and_the_later_holds() -> None:
    one, two = Assign({"tempo": 1.0, "seed": 2}, ("/a", "/b")), Assign({"tempo": 3.0}, ("/a", "/c"))
    assert one.merged(two) == Assign({"tempo": 3.0, "seed": 2}, ("/a", "/b", "/c"))
