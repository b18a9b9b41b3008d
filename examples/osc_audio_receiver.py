"""Hear a session over OSC: asks a running `streamgen serve` for audio packets, and plays or saves them.

python examples/osc_audio_receiver.py --seconds 10 --out heard.wav     (without --out: to the sound card)
Packets: /streamgen/audio, then stream, sequence, rate in Hz, stereo frames s16le, as many in every packet;
the position of a packet's first frame is frames of a packet · sequence.
"""

from __future__ import annotations

import argparse
import socket
import time
import wave
from collections.abc import Iterator

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import build_msg


class JitterBuffer:
    """Puts packets in order; begins `depth` packets late, and fills what is missing with silence."""

    def __init__(self, depth: int = 8) -> None:
        self.depth, self.lost, self.next, self.silence = depth, 0, -1, b""
        self._packets: dict[int, bytes] = {}

    def push(self, sequence: int, pcm: bytes) -> None:
        """Take a packet."""
        self._packets[sequence], self.silence = pcm, bytes(len(pcm))
        if self.next < 0 and len(self._packets) >= self.depth:
            self.next = min(self._packets)
        if self.next >= 0 and not -self.depth < sequence - self.next < 8 * self.depth:
            self._packets, self.next = {sequence: pcm}, sequence  # another place in the music, or too far behind

    def ready(self) -> int:
        """Tell how many packets may be pulled before the buffer is thinner than its depth."""
        return max(self._packets) - self.next - self.depth + 2 if self.next >= 0 and self._packets else 0

    def pull(self) -> bytes:
        """Take the next packet's frames: silence if it did not come, or before the first."""
        if self.next < 0:
            return self.silence
        pcm = self._packets.pop(self.next, None)
        self.next, self.lost = self.next + 1, self.lost + (pcm is None)
        return pcm or self.silence


def packets(host: str, port: int, seconds: float) -> Iterator[tuple[int, int, bytes]]:
    """Give (sequence, rate, frames) as they come; asks again every 10 s, for the server forgets who is silent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("", 0))
        channel.settimeout(0.25)
        ask = build_msg("/streamgen/audio/subscribe", channel.getsockname()[1])
        end, ask_at = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            if now > ask_at:
                channel.sendto(ask.dgram, (host, port))
                ask_at = now + 10
            try:
                message = OscMessage(channel.recv(65_536))
            except (TimeoutError, ConnectionError):
                continue
            if message.address == "/streamgen/audio":
                yield int(message.params[1]), int(message.params[2]), bytes(message.params[3])
            elif message.address == "/streamgen/error":
                raise SystemExit(f"the server says: {message.params[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8712)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", help="a .wav file; default: the sound card")
    args = parser.parse_args()
    buffer, came, file, card = JitterBuffer(), 0, None, None
    for sequence, rate, pcm in packets(args.host, args.port, args.seconds):
        buffer.push(sequence, pcm)
        came += 1
        if args.out:
            if file is None:
                file = wave.open(args.out, "wb")  # noqa: SIM115 - its rate is known now, and it is closed below
                file.setparams((2, 2, rate, 0, "NONE", ""))
            file.writeframes(b"".join(buffer.pull() for _ in range(buffer.ready())))
        elif card is None:
            import sounddevice

            give = lambda out, *_: out.__setitem__(slice(None), buffer.pull())  # noqa: E731
            card = sounddevice.RawOutputStream(rate, len(pcm) // 4, None, 2, "int16", callback=give)
            card.start()
    if file is not None:
        file.close()
    print(f"{came} packets came, {buffer.lost} are missing" if came else "nothing came: does `streamgen serve` run?")


if __name__ == "__main__":
    main()
