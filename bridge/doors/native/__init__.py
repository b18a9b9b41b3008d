"""The WebSocket `streamgen.v1`.

requests.py    text messages: what a client asks                    ┐
answers.py     … and what the server says                           │
frames.py      the header of a binary frame, and formats            │ no I/O
codecs.py      samples as bytes and back                            │
broadcast.py   what the listeners of a session share                │
outbox.py      what waits for one listener, what is on its way      ┘
guard.py       a connection that keeps its peer within bounds
listener.py    one listener: audio and events, out
connection.py  one client: what it asks, carried out and answered in order
door.py        the port: who comes in, and where they go
client.py      the other end, for `streamgen listen`
"""
