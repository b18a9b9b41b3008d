"""Doors: each turns what comes from its clients into commands, and a session's blocks and events into what they read.

    door.py        what a door is, what it is made with, and which paths at the HTTP port are whose
    access.py      who may come in, and how much anyone may take;  limits.py: the buckets and turns for that
    answers.py     of doors that have a path at the HTTP port
    packetizer.py  of a session's blocks, each to leave when it is due
    visuals.py     the music in numbers, for those who draw it

native/: the WebSocket `streamgen.v1`, on the port of the page.
    requests.py    text messages: what a client asks                    ┐
    answers.py     … and what the server says                           │
    frames.py      the header of a binary frame, and formats            │ no I/O
    codecs.py      samples as bytes and back                            │
    broadcast.py   what the listeners of a session share                │
    outbox.py      what waits for one listener, what is on its way      ┘
    guard.py       a connection that keeps its peer within bounds
    listener.py    one listener: audio and events, out
    connection.py  one client: what it asks, carried out and answered in order
    front.py       whose a connection is: plain HTTP, another door's, a WebSocket
    door.py        the port: who comes in, and where they go
    client.py      the other end, for `streamgen listen`

http/: plain HTTP on the same port.
    site.py        the page, health, metrics: answers from memory
    oscquery.py    the OSC namespace as JSON, and its changes; no I/O

osc/: Open Sound Control over UDP and TCP.
    codec.py       bytes ↔ messages, by python-osc behind checks        ┐
    address.py     patterns, in linear time                             │ no I/O
    namespace.py   what addresses mean                                  ┘
    admission.py   what clients may take, and what is answered
    clients.py     what each client may still be told, and in which order it is served
    handler.py     packets in, commands to the session, answers out
    feedback.py    what the session says, told to subscribers
    audio.py       the session's sound in packets
    tcp.py         where one packet ends;  door.py: the sockets
    layouts/       control surfaces for other programs, made from the table

device/: what plays at a clock of its own;  sound_card/: PortAudio;  jack/: a client of JACK, and its transport.
    feeder.py      from blocks to the ring: resampled, on time, kept on time
    drift.py       two clocks that disagree
    door.py        opened, fed, watched, and opened again
    card.py, client.py      one that plays what a ring holds

link/: Ableton Link, a guest of whatever tempo the room plays, and the session's sound as a channel of Link Audio.
    wire.py        bytes ↔ messages; no I/O
    peer.py        who is there, whose timeline counts, what time it is there; no I/O
    channel.py     the session's sound, cut for whoever asked for it; no I/O
    door.py        sockets, and the live session

midi/: controllers turn parameters, clock leads the session's beats, or follows them.
    clock.py       clocks with their jitter ─► a line of beats; no I/O
    controllers.py bytes ─► which control, how far; no I/O
    ports.py       of the system;  door.py: of them all, and the live session

radio/: for everything that opens a URL: players, browsers' `<audio>`, net radios.
    station.py     session `live`, to one of encoders.py a codec, to each listener.py over HTTP
    icy.py         titles in between;  icecast.py: a source for a server elsewhere

lyria/: Google's Lyria RealTime, whose SDKs connect unmodified, each to a session of its own.
    protocol.py    its messages;  music_request.py: what they come to here;  connection.py: one client

udp/: uncompressed sound to whom the operator names: packets.py, ReaStream's and RTP's.
discovery/: what the other doors are, told by multicast DNS, only where the operator wants it.

Rules: no door imports another (native serves http's answers, for they share a port), and none imports the engine: a
session (`session.Session`) is all they know. A new one is a folder here, and a line in `app.DOORS`.
"""
