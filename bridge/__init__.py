"""The doors of streamgen: command line, files, the sound card, the network.

Rules: imports streamgen's public names only; streamgen never imports this package.

    cli.py           which command, which exit code
    render.py  play.py  serve.py  listen.py  models.py  devices.py  doctor.py  bench.py     one command each
    parameters.py    the table of musical parameters: range, default, unit
    mix.py           between the table's values and a stream's controls
    options.py       options that several commands share, checked before torch is loaded
    terminal.py      lines and progress bars for people, on stderr
    interrupts.py    Ctrl-C and SIGTERM as a flag that loops look at
    threads.py       how many threads torch takes, how Python's take turns
    audio_in.py      audio prompts and melodies from files

    engine_thread.py sessions.py session.py    the engine's thread; sessions by name; a session as doors see it
    performer.py     a session on that thread: makes audio ahead, commits it when due, takes it back
    lead.py pace.py due_clock.py               what is ahead, how fast it is made, which sample is due
    commands.py      what a door may ask, and what a session tells
    metrics.py       counters of the whole service

    audio_out/       sound card, recording, output chain, resampling
    network/         WebSocket, OSC, OSCQuery, HTTP
    web/             the page
    measuring/       the figures behind `bench` and `doctor`
"""
