"""Doors on the network. Each turns what comes from its clients into commands, and events into what its clients read.

Rules: no door imports another, and none imports the engine: a session (`messages.Session`) is all they know.
"""
