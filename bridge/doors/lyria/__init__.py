"""The door for clients of Google's Lyria RealTime: the SDKs connect here unmodified, each to a session of its own."""
