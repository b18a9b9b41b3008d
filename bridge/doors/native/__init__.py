"""The WebSocket streamgen.v1: frames, messages, one connection's life."""
