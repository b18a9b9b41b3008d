"""From the knob to the ear, at the page and the sound card at once, whatever the lead: a model that sings sines.

CI turns each STREAMGEN_TURNS=10 times; the figures of docs/measurements.md are of 20.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from typing import Any

import numpy as np
import pytest
from knob_to_ear import Tap, attach, played, prompt_after, silence_after, singing_service, sound_after, turn, wait
from page_driver import watch

from ...real_parts.pulseaudio import RATE_HZ, PulseAudio

pytestmark = [pytest.mark.device, pytest.mark.slow]

TURNS = int(os.environ.get("STREAMGEN_TURNS", "10"))
PROMPTS = ("piano", "techno")


def test_mute_and_prompt_are_heard_soon_whatever_the_lead(chromium: Any, pulseaudio: PulseAudio) -> None:
    draw = random.Random(5)
    with singing_service(pulseaudio.environment) as url, pulseaudio.overhearing() as card:
        opened = watch(chromium.new_context(bypass_csp=True).new_page())
        opened.page.goto(url)
        opened.connected()
        opened.play()
        attach(opened)
        wait(3.0, opened)  # the clocks settle, the lead is there
        mutes, prompts = [], []
        for _ in range(TURNS):
            mutes.append(turn(opened, "mute"))
            wait(0.8 + 0.1 * draw.random(), opened)
        for number in range(TURNS):
            prompts.append(turn(opened, "prompt/1/text", PROMPTS[1 - number % 2]))
            wait(1.1 + 0.1 * draw.random(), opened)
        wait(0.5, opened)
        tap, report = played(opened), opened.ask("streamgen.player.report")
        opened.page.close()
    for where, heard in (("page", tap), ("sound card", Tap(card.samples(), card.began, RATE_HZ))):
        muted = [(sound_after if number % 2 else silence_after)(heard, at) for number, at in enumerate(mutes)]
        changed = [prompt_after(heard, at, PROMPTS[1 - n % 2], PROMPTS[n % 2]) for n, at in enumerate(prompts)]
        for what, seconds in (("mute", muted), ("prompt", changed)):
            spread = f"{min(seconds):.3f} … {max(seconds):.3f} s"
            print(f"\n{what} to ear at the {where}: median {statistics.median(seconds):.3f} s, {spread}")
        assert not any(map(math.isnan, muted + changed)), "every turn was heard"
        assert min(muted + changed) > 0.05, "none before its turn could be: else the recording's clock is off"
        assert np.median(muted) <= 0.3
        assert np.median(changed) <= 0.6
    print(f"the page holds back {1000 * report['delay']:.0f} ms; {report['underruns']} underruns")
    assert report["underruns"] <= 2, "soon, and not torn; on a busy machine the engine itself may be late once"
    assert opened.complaints == []
