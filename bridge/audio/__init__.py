"""A session's signal path, and sound in files: between the engine's PCM and every sink.

    effect.py      what an effect is;  width.py  gain.py  limiter.py: those there are
    chain.py       a session's effects in order, their latency taken off
    output.py      from what a model made to what a session plays: fades, the session's rate, the chain
    resample.py    another rate, without a click at chunk edges
    meters.py      peaks
    ring.py        between a thread that writes and a callback that reads
    files.py       one stream into a file
    recorder.py    a session's output into FLAC or WAV, whole after a kill −9
    audio_in.py    audio prompts and melodies: files, and bytes from the network

Rules: numpy in every signal path; files and threads only where the name says so. Knows no session.
"""
