"""A live session: its parameters, its player on the engine's thread, its place in time, and the doors' view of it."""
