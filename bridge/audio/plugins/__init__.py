"""Effects that are other people's programs: each runs in a process of its own, and nothing it does can stop the music.

    engine's thread                                        child process (spawned, never forked)
    plugin.py ── block, changes ─► memory.py ─ one byte ─►  child.py ─► engine.py: minihost_engine.py
              ◄─ block ─────────── memory.py ◄ one byte ──             (VST3, LV2, AU; GPL; imported there alone)

    engine.py           what a child needs of a host for plugins, and what a plugin tells of itself
    minihost_engine.py  minihost behind that interface; the only file that imports it
    vst3.py             the id of a VST3 plugin's class, for its preset files
    memory.py           the block that both processes see
    child.py            the child's program
    process.py          a child as its parent sees it: loaded, asked within a deadline, ended by its id
    spawn.py            starting it
    parameters.py       a plugin's 0 … 1 as rows of the session's table, in its own units
    plugin.py           the effect: a child that is watched, restarted with its state, given up after three strikes
    scan.py             which plugins there are, each looked at in a child of its own
    lv2.py              which plugins an LV2 bundle has

Rules: engine.py, memory.py, child.py, vst3.py and minihost_engine.py import neither streamgen nor torch: a child starts
in a fraction of a second. A plugin's path comes from the operator's scan or rack file, never from the network.
"""
