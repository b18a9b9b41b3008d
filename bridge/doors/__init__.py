"""Doors: each turns what comes from its clients into commands, and a session's blocks and events into what they read.

    door.py        what a door is, and what it is made with
    access.py      who may come in, and how much anyone may take;  limits.py: the buckets and turns for that
    native/        WebSocket `streamgen.v1`, on the port of the page
    http/          page, health, metrics, OSCQuery, on the same port
    osc/           Open Sound Control, UDP and TCP
    radio/         MP3, Ogg, FLAC, AAC and WAV for players, on the port of the page;  lyria/: Google's protocol there
    link/  midi/   beats, tempo, start and stop of the room; sound by Link Audio; controllers
    sound_card/    PortAudio;  jack/: a client of JACK;  device/: what both share
    udp/           ReaStream and RTP to whom the operator names
    discovery/     tells of the others by multicast DNS

    answers.py     of doors that have a path at the HTTP port, by routes.py
    pieces.py      of a session's blocks, each to leave when it is due

Rules: no door imports another (native serves http's answers, for they share a port), and none imports the engine: a
session (`session.Session`) is all they know. A new one is a folder here, and a line in `app.DOORS`.
"""
