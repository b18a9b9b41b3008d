"""Where audio goes, between the engine's PCM and every sink.

Rules: numpy in every signal path; files, threads and devices only where the name says so.

    output.py      width, gain, mute, then limiter.py: what every door hears; constant latency
    timed_output.py  the same with a timetable: parameters at their sample, faded edges
    limiter.py     no true peak above −1 dBFS
    meters.py      peaks
    recorder.py    a session's output into FLAC or WAV, whole after a kill −9
    file.py        one rendered stream into a file
    sound_door.py  a session at the sound card: feeder.py keeps it on time, drift.py bridges two clocks' difference
    sound_card.py  PortAudio, over ring.py's buffer
    resample.py    another rate, without a click at chunk edges
"""
