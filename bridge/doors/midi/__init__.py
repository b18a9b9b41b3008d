"""MIDI: controllers turn parameters, clock leads the session's beats, or follows them.

clock         clocks with their jitter ─► a line of beats                no I/O
controllers   bytes ─► which control, how far; what was learned of it    no I/O
door          ports, and the live session
"""
