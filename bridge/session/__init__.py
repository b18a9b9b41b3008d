"""A live session: its parameters, its player on the engine's thread, its place in time, and the doors' view of it.

    messages.py       what a door may ask, and what a session tells: the words of all doors
    parameters.py     THE table of a session's parameters
    timeline.py       which sample is due when; what waits for its moment
    lookahead.py      audio that is made and not final, and the ways back through it
    generator.py      the music, made ahead                                    ┐
    committer.py      from final samples to blocks that are told               ├ engine's thread
    player.py         makes ahead, commits what falls due, takes back          ┘
    engine_thread.py  the only crossing between that thread and asyncio
    live_session.py   a session as doors see it                                ┐
    registry.py       sessions by name                                         ├ event loop
    state.py          what lasts until the next start                          ┘

Rules: knows no door. Inside a player positions count the model's samples, everywhere else the session's.
"""
