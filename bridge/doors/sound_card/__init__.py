"""The sound card: PortAudio, kept in step with the session's clock.

card.py        devices, and one that plays what a ring holds
door.py        which of them, and how to find it again
"""
