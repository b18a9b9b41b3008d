"""An open page, and what it complained of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Open:
    """An open page, what it complained of, and short ways to ask it things."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def ask(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        return self.page.evaluate(script)

    def until(self, script: str, timeout_ms: float = 30_000, every_ms: float = 20) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + timeout_ms / 1000
        while not self.ask(script):  # playwright's own wait uses eval(), which the page's policy forbids
            assert time.monotonic() < end, f"never true: {script}"
            self.page.wait_for_timeout(every_ms)

    def connected(self) -> None:
        """Wait until the server's first words are shown: the page is told that the link is open a turn before them."""
        self.until("document.body.dataset.link === 'open' && streamgen.session.greeted")

    def play(self) -> None:
        """Press the button and wait for sound."""
        self.page.click("#play")
        self.until("streamgen.player.report.heard > 3200 && !streamgen.player.report.waiting")

    def knob(self, parameter: str) -> Any:
        """The element that shows a parameter."""
        return self.page.locator(f'[data-parameter="{parameter}"]')


def watch(page: Any) -> Open:
    """Note every error and warning of a page."""
    opened = Open(page)
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and opened.complaints.append(said.text))
    return opened
