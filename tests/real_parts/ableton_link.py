"""Ableton's own library as a peer, through LinkPython-extern.

`python ableton_link.py BPM` prints what it sees 50 times a second as JSON, and obeys lines: `tempo X`, `play`, `stop`,
`quit`.

Rules: a process of its own. Its wheel holds Ableton's GPL code: nothing of streamgen is imported here, and streamgen
imports nothing of this.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import link


def tell(peer: link.Link) -> None:
    while True:
        state, before = peer.captureSessionState(), time.monotonic()
        now_us = peer.clock().micros()
        seen = {"monotonic": (before + time.monotonic()) / 2, "beat": state.beatAtTime(now_us, 4)}
        print(
            json.dumps(seen | {"tempo": state.tempo(), "peers": peer.numPeers(), "playing": state.isPlaying()}),
            flush=True,
        )
        time.sleep(0.02)


def main() -> None:
    peer = link.Link(float(sys.argv[1]))
    peer.startStopSyncEnabled = peer.enabled = True
    threading.Thread(target=tell, args=(peer,), daemon=True).start()
    for line in sys.stdin:
        word, *values = line.split()
        state, now_us = peer.captureSessionState(), peer.clock().micros()
        if word == "quit":
            break
        if word == "tempo":
            state.setTempo(float(values[0]), now_us)
        else:
            state.setIsPlaying(word == "play", now_us)
        peer.commitSessionState(state)


main()
