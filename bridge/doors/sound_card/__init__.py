"""The sound card: PortAudio, kept in step with the session's clock.

card.py        devices, and one that plays what a ring holds
feeder.py      from blocks to the ring: resampled, on time, kept on time
drift.py       two clocks that disagree
door.py        opened, fed, watched, and opened again
"""
