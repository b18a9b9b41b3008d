"""An endless stream, and a batch of clips: controls at a sample, tokens, sound.

Map: stream.py (what users hold) · controls.py, control_state.py, schedule.py (what is set, in force, waiting) ·
snapshots.py (places to go back to) · pcm_buffer.py (sound not read yet) · reading.py (several read at once) ·
batch.py (clips of known length).
"""
