"""What doors share that play at a device with a clock of its own: the sound card, JACK.

feeder.py      from blocks to the ring: resampled, on time, kept on time
drift.py       two clocks that disagree
door.py        opened, fed, watched, and opened again
"""
