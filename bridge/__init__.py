"""The doors of streamgen: command line, page, WebSocket, OSC, sound card, files.

Map of the rooms, the upper ones standing on the lower (import-linter holds them to it):
    cli/           one file a command: main.py chooses; options and lines for people are shared
    app.py         from settings to doors that are open, and back in order
    doors/         ways in and out of a session: native (WebSocket, page), http, osc, sound_card
    measuring/     the figures behind `bench` and `doctor`
    metrics.py     counters of the whole service
    settings.py    what the operator sets: one typed table for options, keys and the reference
    session/       a live session: parameters, player, timeline, state; the engine's thread
    audio/         signal path, files, recordings, meters: numpy in, numpy out
    errors.py  threads.py
    web/           the page, as it is served

Rules: imports streamgen's public names, and what its own rooms say; streamgen never imports this package. A session
(`session.session.Session`) is all that doors know of the music. See docs/topics/architecture.md.
"""
