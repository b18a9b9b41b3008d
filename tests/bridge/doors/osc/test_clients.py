"""Echoes at most 30 times a second, the last value always; what waits for a client; who is remembered."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from bridge.doors.limits import TURN_SECONDS, Bucket, Turns
from bridge.doors.osc.clients import Client, Clients, Echo
from bridge.doors.osc.namespace import Assign, Query
from bridge.session.commands import Action, Transport


def test_an_echo_is_at_once_then_at_most_thirty_a_second_and_ends_with_the_last_value() -> None:
    async def main() -> list[tuple[float, bytes]]:
        loop, value = asyncio.get_running_loop(), [0]
        sent: list[tuple[float, bytes]] = []
        echo = Echo(lambda packet: sent.append((loop.time(), packet)), lambda address: b"%d" % value[0], Turns())
        for number in range(200):
            value[0] = number
            echo.mark(["/a"])
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        return sent

    sent = asyncio.run(main())
    gaps = np.diff([at for at, _ in sent])
    assert min(gaps) > 0.030
    assert sent[0][1] in (b"0", b"1")
    assert sent[-1][1] == b"199"


def test_addresses_marked_together_are_told_once_each() -> None:
    async def main() -> list[bytes]:
        sent: list[bytes] = []
        echo = Echo(sent.append, str.encode, Turns())
        echo.mark(["/a", "/b", "/a"])
        echo.mark(["/b", "/c"])
        await asyncio.sleep(0.02)
        echo.mark(["/d"])
        echo.close()
        await asyncio.sleep(0.05)
        return sent

    assert asyncio.run(main()) == [b"/a", b"/b", b"/c"]


def test_many_who_are_told_at_once_leave_the_loop_to_others_in_between() -> None:
    async def main() -> float:
        loop, turns, told = asyncio.get_running_loop(), Turns(), [0]

        def send(_packet: bytes) -> None:
            time.sleep(TURN_SECONDS / 10)
            told[0] += 1

        for _ in range(32):
            Echo(send, str.encode, turns).mark(["/a", "/b"])
        most, before, end = 0, 0, loop.time() + 5
        while told[0] < 64 and loop.time() < end:
            await asyncio.sleep(0)
            most, before = max(most, told[0] - before), told[0]
        assert told[0] == 64
        return most

    assert asyncio.run(main()) <= 14, "of 64 in one turn"


def test_an_address_that_is_no_more_is_left_out() -> None:
    async def main() -> list[bytes]:
        sent: list[bytes] = []
        Echo(sent.append, {"/a": b"1", "/c": b"3"}.get, Turns()).mark(["/a", "/b", "/c"])
        await asyncio.sleep(0.02)
        return sent

    assert asyncio.run(main()) == [b"1", b"3"]


def test_changes_that_follow_each_other_become_one_and_others_keep_their_place() -> None:
    client = Client("key", ("127.0.0.1", 5), lambda packet: True, False, Bucket(1, 1))
    one, two, three = (Assign({"tempo": value}, ("/a",)) for value in (1.0, 2.0, 3.0))
    assert [client.append(request, 3) for request in (one, two, Query("ping"), three, Transport(Action.PLAY, ""))] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert list(client.waiting) == [two, Query("ping"), three]
    assert client.append(one, 3), "it grows no longer"


def test_the_client_silent_for_longest_is_forgotten_but_no_connection() -> None:
    clients = Clients(2, 1, lambda client, packet: None, lambda address: None, Turns())
    connection = clients.meet("tcp", ("127.0.0.1", 1), lambda packet: True, connected=True)
    first = clients.meet("a", ("127.0.0.1", 2), lambda packet: True, connected=False)
    second = clients.meet("b", ("127.0.0.1", 3), lambda packet: True, connected=False)
    assert list(clients) == [connection, second]
    assert clients.get("a") is None
    assert clients.get("b") is second
    assert first.by == "osc 127.0.0.1:2"
