"""A live session: its parameters, its player on the engine's thread, its place in time, and the doors' view of it.

Words of all doors:
    session.py        a session as doors see it, a listener as a session sees it
    commands.py       what a door may ask
    events.py         what a session tells
    parameters.py     THE table of a session's parameters

Time:
    timeline.py       which sample is due when, on which beat; a schedule of what waits
    beats.py          a line of beats
    metronome.py      the session's own beats, and where the music's bars lie among them

The engine's thread:
    player.py         carries out what is asked, makes ahead, takes back
    playback.py       whether it plays, how much lies ahead for that, what is final
    landing.py        when what is asked for can happen, and what waits until then
    scheduled.py      what is to come, in force until then, and told again
    generator.py      the music, made ahead
    lookahead.py      … its pieces, the ways back through them, how fast they are made
    committer.py      from final samples to blocks that are told
    form.py           parts of a scene, one after another: arranger.py reads and dresses them
    rack_edits.py     edits of the rack
    engine_thread.py  the only crossing between that thread and asyncio

The event loop:
    live_session.py   the session
    registry.py       sessions by name
    state.py          what lasts until the next start: rack_keeper.py, the rack of it
    presets.py        what is kept by name: preset_folder.py where, preset_files.py how it is written

Rules: knows no door. Inside a player positions count the model's samples, everywhere else the session's.
"""
