"""Open Sound Control over UDP and TCP."""
