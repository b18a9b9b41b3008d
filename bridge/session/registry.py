"""Sessions by name: `live` for ever, the others for as long as somebody is there, and a while longer.

    get("new") ──► s-4f… opened ──► its listeners ──► the last one leaves ──► KEPT_SECONDS ──► closed
                      ▲                                                           │
                      └────────────── get("s-4f…"): the connection was lost ──────┘

A private session waits for its listener to come back: its clock stands still meanwhile, so the music goes on where it
was. Whoever comes back names it; `hello` told the name, which cannot be guessed. Where room is short, sessions left
for GRACE_SECONDS give theirs up.

Rules: event loop; knows no door.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time

from bridge.session.engine_thread import EngineThread
from bridge.session.live_session import LiveSession
from streamgen.errors import CapacityError

__all__ = ["GRACE_SECONDS", "KEPT_SECONDS", "SessionRegistry"]

KEPT_SECONDS = 30.0
GRACE_SECONDS = 5.0


class SessionRegistry:
    """Every open session.

    Args:
        engine: opens them.
        live: the one that all doors share; the others run at its rate, with its effects and presets.

    Attributes:
        live: as given.
    """

    def __init__(self, engine: EngineThread, live: LiveSession) -> None:
        self.live = live
        self._engine, self._open = engine, {live.name: live}
        self._left_at: dict[str, float] = {}
        self._opening = asyncio.Lock()  # two who ask for one name must get one session

    def __len__(self) -> int:
        return len(self._open)

    async def get(self, name: str) -> LiveSession:
        """Return the session of a name, opening it if need be; `new` is always a fresh one.

        Raises:
            CapacityError: this machine keeps up with no more.
        """
        if name == "new":
            name = f"s-{secrets.token_hex(8)}"
        if name not in self._open:
            async with self._opening:
                if name not in self._open:
                    self._open[name] = await self._opened(name)
        self._left_at.pop(name, None)
        return self._open[name]

    async def _opened(self, name: str) -> LiveSession:
        try:
            return await self._opened_now(name)
        except CapacityError as full:
            if not await self._make_room():
                seconds = math.ceil(self._room_in_seconds())
                raise CapacityError(f"{full}; try again in {seconds} s") from None
            return await self._opened_now(name)

    async def _opened_now(self, name: str) -> LiveSession:
        live = self.live
        return await LiveSession.open(
            name, self._engine, live.rate_hz, catalogue=live.catalogue, presets=live.preset_folder.path
        )

    async def _make_room(self) -> bool:
        """Close the session that was left longest ago, if that is long enough; tells whether it did.

        One that does not play is nobody's loss: it gives its place up at once.
        """
        self._note_deserted()
        for name in sorted(self._left_at, key=self._left_at.__getitem__):
            if self._room_in_seconds(name) <= 0:
                await self._close(name, "its place was needed")
                return True
        return False

    def _room_in_seconds(self, *names: str) -> float:
        """How long until a left session, of these or of all, gives its place up; none is left: how long one is kept."""
        return min((self._grace_left(name) for name in names or self._left_at), default=KEPT_SECONDS)

    def _grace_left(self, name: str) -> float:
        if not self._open[name].state().plays:
            return 0.0
        return max(0.0, self._left_at[name] + GRACE_SECONDS - time.monotonic())

    def _note_deserted(self) -> None:
        for name, session in self._open.items():
            if session is self.live or not session.deserted:
                self._left_at.pop(name, None)
            else:
                self._left_at.setdefault(name, time.monotonic())

    async def reap(self, every_seconds: float = 1.0) -> None:
        """Close what was left long ago and give back what is not needed, for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            self._note_deserted()
            for name in [name for name, at in self._left_at.items() if time.monotonic() - at > KEPT_SECONDS]:
                await self._close(name, "nobody was there")
            await self._engine.tidy()

    async def _close(self, name: str, reason: str) -> None:
        session = self._open.pop(name)
        self._left_at.pop(name, None)
        await session.close(reason)

    async def close(self, reason: str) -> None:
        """Close all."""
        for name in list(self._open):
            await self._close(name, reason)
