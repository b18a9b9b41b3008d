"""A session's signal path, and sound in files: between the engine's PCM and every sink.

Rules: numpy in every signal path; files, threads and processes only where the name says so. Knows no session.

    output.py      the way out of a session: faded edges, its rate, then chain.py: what every door hears
    chain.py       effect.py's effects in order: width, rack, master, gain, limiter; positions stay true
    rack.py        effects that are edited while they play, each in a slot.py, mixed by position (aligned.py);
                   faults.py says what is asked of effects that may fail
    catalogue.py   what can be put there: built_in.py's effects by name, and the operator's plugins/
    equalizer.py  compressor.py  saturation.py  reverb.py      built-in effects, on filters.py
    master.py      mastering with one switch; loudness.py measures as BS.1770 does
    width.py  gain.py  limiter.py                              no true peak above −1 dBFS
    meters.py      peaks
    recorder.py    a session's output into FLAC or WAV, whole after a kill −9
    files.py       one rendered stream into a file
    audio_in.py    audio prompts and melodies out of one
    resample.py    another rate, without a click at chunk edges
    ring.py        what a sound card's callback reads
"""
