"""The page: plain ES modules and an AudioWorklet, served as they lie here, without a build step.

Rules: nothing here knows a parameter's name or range: the server's `hello` tells them. No file comes from elsewhere.

    index.html   style.css   icon.svg
    app.js        joins everything; the only file that knows all others
    protocol.js   streamgen.v1: frames, messages, reconnecting
    feed.js       the worker that holds the socket and feeds the audio thread;  link.js  the page's end of it
    state.js      values: the session's, and the hand's on top
    player.js     AudioContext and worklet, on the page's side
    worklet.js    the audio thread's side        ring.js       jitter buffer: each frame when it is due; pure
    clock.js      the playback clock: what the server's shows when a sample is heard here
    recorder.js   WAV of exactly what was received
    slots.js  surface.js  controls.js  knob.js  rack.js      what is seen and touched
    meters.js  beat.js  figures.js                           what is only seen
    announce.js  keys.js  midi.js                              screen readers, keyboard, controllers
    dropped.js    a recording that is dropped: what it is for
"""

from __future__ import annotations

__all__ = ["TYPES"]

# What is served, and as what; `bridge.doors.http.site` reads these files once and opens no other.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
