"""Doors: each turns what comes from its clients into commands, and a session's blocks and events into what they read.

    door.py        what a door is, and what it is made with
    access.py      who may come in, and how much anyone may take;  limits.py: the buckets and turns for that
    native/        WebSocket `streamgen.v1`, on the port of the page
    http/          page, health, metrics, OSCQuery, on the same port
    osc/           Open Sound Control, UDP and TCP
    sound_card/    PortAudio

Rules: no door imports another (native serves http's answers, for they share a port), and none imports the engine: a
session (`session.Session`) is all they know. A new one is a folder here, and a line in `app.DOORS`.
"""
