"""The language model: codes in, codes out, for ever.

Map: delay.py (which frame stands where) · windows.py (how an endless stream fits 1503 positions) · decoder.py,
cross.py, cache.py (one pass over the weights) · sampling.py (logits → codes) · token_stream.py (one stream's tokens),
its codes in code_ring.py, its cache rows in window_set.py · engine.py (one step of many streams) · precision.py (the
number format, chosen by measuring).
"""
