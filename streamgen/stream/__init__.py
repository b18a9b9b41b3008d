"""An endless stream, and a batch of clips: controls at a sample, tokens, sound.

Map: stream.py (what users hold) · sound_stream.py (what plays, step by step) · controls.py, control_state.py,
schedule.py (what is set, in force, waiting) · snapshots.py (places to go back to) · pcm_buffer.py (unread sound) ·
guard.py (music that has died) · audition.py (the best of some openings) · reading.py (several read at once) · batch.py
(clips of known length).
"""
