"""Ableton Link: the live session as a guest of whatever tempo the room plays, and its sound as a channel of Link Audio.

wire      bytes ⇄ messages                                     no I/O
peer      who is there, whose timeline counts, what time it is there
channel   the session's sound, cut for whoever asked for it
door      sockets, and the live session
"""
