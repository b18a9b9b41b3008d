"""The doors of streamgen: command line, page, WebSocket, OSC, sound card, files.

Map of the rooms, the upper ones standing on the lower (import-linter holds them to it):
    cli/           one file a command, each standing alone: main.py says which, and which exit code; options.py makes
                   options from the tables, terminal.py lines and progress for people, terminal_door.py commands of a
                   session from typed lines (terminal_rack.py: of its rack). A command takes options apart and reports;
                   what it does is app.py's, a session's, or the engine's
    app.py         from settings to doors that are open, and back in order
    doors/         ways in and out of a session: WebSocket and page, HTTP, OSC, Link, MIDI, sound card, JACK, …
    speed.py       how many sessions this machine keeps up with, and with comparison.py the figures of `bench`
    metrics.py     counters of the whole service
    settings.py    what the operator sets: one typed table for options, keys and the reference
    session/       a live session: parameters, player, timeline, state; the engine's thread
    audio/         signal path, files, recordings, meters: numpy in, numpy out
    errors.py  threads.py
    web/           the page, as it is served

Rules: imports streamgen's public names, and what its own rooms say; streamgen never imports this package. A session
(`session.session.Session`) is all that doors know of the music. See docs/topics/architecture.md.
"""
