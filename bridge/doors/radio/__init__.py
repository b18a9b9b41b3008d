"""The door for everything that opens a URL: players, browsers' `<audio>`, net radios.

session `live` ─► station ─► one encoder a codec ─► listeners over HTTP: /listen.mp3 .ogg .flac .aac .wav
"""
