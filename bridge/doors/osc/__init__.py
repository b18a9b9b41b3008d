"""Open Sound Control over UDP and TCP.

codec.py       bytes ↔ messages, by python-osc behind checks        ┐
address.py     patterns, in linear time                             │ sans I/O
namespace.py   what addresses mean                                  ┘
admission.py   what clients may take, and what is answered
clients.py     what each client may still be told, and in which order it is served
handler.py     packets in, commands to the session, answers out
feedback.py    what the session says, told to subscribers
audio.py       the session's sound in packets, and levels
tcp.py         where one packet ends;  door.py: the sockets
"""
