"""The language model: codes in, codes out, for ever.

Map: step.py (a step as data: settings in, vectors to feed) · token_stream.py (one stream's tokens), its cache rows in
window_set.py · engine.py (one pass for many streams) · decoder.py, attention.py, cross.py, cache.py (what a pass
computes), in few bits native.py and native_cache.py, on a GPU captured.py · sampling.py (logits → codes) · delay.py
(which frame stands where; the newest codes) · windows.py (how an endless stream fits 1503 positions) · evaluation.py
(logits of codes that are known) · precision.py (the number format, chosen by measuring).
"""
