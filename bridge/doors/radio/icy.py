"""What players show: the title, in the stream's own way, and playlists. No I/O.

    ICY   16,000 bytes of sound │ n │ 16 · n bytes StreamTitle='…'; │ 16,000 bytes of sound │ 0 │ …

Where a title is as before, n is 0. What a player asked for (`Icy-MetaData: 1`) counts from its first byte of sound.
"""

from __future__ import annotations

__all__ = ["METAINT", "Interleaver", "m3u", "pls"]

METAINT = 16_000
_MOST_BYTES = 255 * 16


class Interleaver:
    """Puts titles into one listener's stream."""

    def __init__(self) -> None:
        self._left = METAINT
        self._told: str | None = None

    def process(self, data: bytes, title: str) -> bytes:
        """Return the sound with titles in it.

        Args:
            data: what comes next.
            title: of it.
        """
        out = []
        while len(data) >= self._left:
            out += [data[: self._left], self._block(title)]
            data, self._left = data[self._left :], METAINT
        self._left -= len(data)
        return b"".join([*out, data])

    def _block(self, title: str) -> bytes:
        if title == self._told:
            return b"\0"
        self._told = title
        # players look for '; as the end, and know no escape
        words = f"StreamTitle='{title.replace(chr(39), '’')}';".encode()
        if len(words) > _MOST_BYTES:
            words = words[: _MOST_BYTES - 2].decode(errors="ignore").encode() + b"';"
        count = -(-len(words) // 16)
        return bytes([count]) + words.ljust(16 * count, b"\0")


def m3u(url: str, title: str) -> str:
    """Return a playlist of one endless stream."""
    return f"#EXTM3U\n#EXTINF:-1,{title}\n{url}\n"


def pls(url: str, title: str) -> str:
    """Return the same in Winamp's format."""
    return f"[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1={title}\nLength1=-1\nVersion=2\n"
