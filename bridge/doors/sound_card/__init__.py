"""The sound card: PortAudio, kept in step with the session's clock."""
