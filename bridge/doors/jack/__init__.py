"""JACK, or PipeWire in its place: a client named "streamgen" with two outputs, and the transport.

client.py      the client: plays what a ring holds, knows where the transport is
door.py        the live session there: fed as the sound card is, connected, in step with the transport
"""
