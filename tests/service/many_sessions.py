"""How many sessions a service plays: opened until one is refused, then listened to; what each of them lacked.

    python tests/service/many_sessions.py [--seconds 300] [--most 32] [--model pocket] [--arrange 0]

Each plays another of the prompts that the model suggests, as a session begins: with parts, where its model arranges.
The service is the real one in a process of its own; the listeners are WebSockets in this one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


class Listener:
    """One session's listener.

    Attributes:
        blocks: how many it got.
        gaps: when audio came too late, and how long it lacked, in seconds.
        refused: why it was not let in; "" if it was.
    """

    def __init__(self) -> None:
        self.blocks, self.refused, self.begun = 0, "", asyncio.Event()
        self.gaps: list[tuple[float, float]] = []

    async def listen(self, url: str, stack: AsyncExitStack, number: int, values: dict[str, Any]) -> None:
        """Open the session, ask for a prompt, and listen until the connection is closed."""
        try:
            client = await stack.enter_async_context(
                connect(url, subprotocols=["streamgen.v1"], max_size=None, compression=None)  # type: ignore[list-item]
            )
            rate_hz = 48_000
            async for message in client:
                if isinstance(message, bytes):
                    self.blocks += 1
                    self.begun.set()
                    continue
                told: dict[str, Any] = json.loads(message)
                if told["type"] == "hello":
                    prompt = _suggested(told, number)
                    await client.send(json.dumps({"type": "set", "values": {"prompt/1/text": prompt} | values}))
                rate_hz = told.get("sample_rate_hz", rate_hz)
                if told.get("reason") == "underrun":
                    self.gaps.append((time.monotonic(), told["samples"] / rate_hz))
        except ConnectionClosed as closed:
            self.refused = closed.rcvd.reason if closed.rcvd else "lost"
            self.begun.set()


def _suggested(hello: dict[str, Any], number: int) -> str:
    rows = {row["name"]: row for row in hello["parameters"]}
    prompts = [row["suggestions"][0] for name, row in rows.items() if name.endswith("/text") and "suggestions" in row]
    return str(prompts[number % len(prompts)]) if prompts else "house, 125 bpm"


async def main(url: str, pid: int, seconds: float, most: int, values: dict[str, Any]) -> None:
    """Open sessions, listen, and tell."""
    listeners: list[Listener] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        listening = []
        for number in range(most):
            one = Listener()
            address = url + ("?session=new" if number else "")
            listening.append(tasks.create_task(one.listen(address, stack, number, values)))
            await asyncio.wait_for(one.begun.wait(), 60)
            if one.refused:
                print(f"session {number + 1} refused: {one.refused}", flush=True)
                break
            listeners.append(one)
            await asyncio.sleep(0.3)
        print(f"{len(listeners)} sessions play, one of them the shared one", flush=True)
        await asyncio.sleep(3)
        began, before, used = time.monotonic(), [one.blocks for one in listeners], _processor_seconds(pid)
        await asyncio.sleep(seconds)
        gaps = [[length for at, length in one.gaps if at >= began] for one in listeners]
        heard = min(one.blocks - count for one, count in zip(listeners, before, strict=True))
        print(f"late blocks of each in {seconds:g} s: {[len(one) for one in gaps]}, {sum(map(sum, gaps)):.2f} s in all")
        print(f"blocks heard: {heard} at least; processors: {(_processor_seconds(pid) - used) / seconds:.2f}")
        for task in listening:
            task.cancel()


def _processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--most", type=int, default=32, help="sessions that are asked for")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--arrange", type=int, choices=(0, 1), help="said of every session; else the model's own")
    args = parser.parse_args()
    values = {} if args.arrange is None else {"arrange": bool(args.arrange)}
    words = ["serve", "--model", args.model, "--port", "0", "--osc-port", "0", "--no-soundcard", "--json", "--fresh"]
    command = [sys.executable, "-m", "bridge.cli.main", *words]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert service.stdout is not None
    try:
        ready = json.loads(service.stdout.readline())
        asyncio.run(main(ready["websocket"], service.pid, args.seconds, args.most, values))
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)
