"""A session's signal path, and sound in files: between the engine's PCM and every sink.

Rules: numpy in every signal path, and in C++ what is slow in it, where that was built; files, threads and processes
only where the name says so. Knows no session.

    output.py      the way out of a session: faded edges, its rate, then chain.py: what every door hears
    chain.py       effect.py's effects in order: width, rack, master, gain, limiter; positions stay true
    rack.py        effects that are edited while they play, each in a slot.py, mixed (slot_mix.py) by position
                   (aligned.py); faults.py says what is asked of effects that may fail
    catalogue.py   what can be put there: built-in effects by name, and the operator's plugins
    equalizer.py  compressor.py  saturation.py  reverb.py      built-in effects, on filters.py
    master.py      mastering with one switch; loudness.py measures as BS.1770 does, and peaks
    width.py  gain.py  limiter.py                              no true peak above −1 dBFS
    loops.py       native/effects.cpp: what of all these is done for every sample; without it numpy does the same
    recorder.py    a session's output into FLAC or WAV, whole after a kill −9
    files.py       one rendered stream into a file
    audio_in.py    audio prompts and melodies out of one
    conversion.py  another rate, without a click at chunk edges; 16 bits
    ring.py        what a sound card's callback reads

plugins/ are other people's programs: each runs in a process of its own, and nothing it does can stop the music.

    engine's thread                                        child process (spawned, never forked)
    plugin.py ── block, changes ─► memory.py ─ one byte ─►  child.py ─► engine.py: minihost_engine.py
              ◄─ block ─────────── memory.py ◄ one byte ──             (VST3, LV2, AU; GPL; imported there alone)

    engine.py           what a child needs of a host for plugins, and what a plugin tells of itself
    minihost_engine.py  minihost behind that interface; the only file that imports it
    memory.py           the block that both processes see
    child.py            the child's program
    process.py          a child as its parent sees it: loaded, asked within a deadline, ended by its id
    spawn.py            starting it
    parameters.py       a plugin's 0 … 1 as rows of the session's table, in its own units
    plugin.py           the effect: a child that is watched, restarted with its state, given up after three strikes
    scan.py             which plugins there are, each looked at in a child of its own
    lv2.py              which plugins an LV2 bundle has

Rules: engine.py, memory.py, child.py and minihost_engine.py import neither streamgen nor torch: a child starts in a
fraction of a second. A plugin's path comes from the operator's scan or rack file, never from the network.
"""
