"""The sound card, through PortAudio.

Rules: the only file that imports sounddevice, and only when asked, for PortAudio may be missing. The callback copies
from the ring and does nothing else. The device runs at its own rate; whoever writes the ring resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bridge.audio.ring import Ring
from bridge.doors.door import without_stderr
from bridge.errors import DeviceError

__all__ = ["INSTALL_PORTAUDIO", "OutputDevice", "SoundCard", "choose_device", "output_devices", "rescan"]

INSTALL_PORTAUDIO = "install PortAudio (Debian, Ubuntu: apt install libportaudio2; Fedora: dnf install portaudio)"


@dataclass(frozen=True)
class OutputDevice:
    """A device that plays.

    Attributes:
        index: PortAudio's number of it.
        name: as its driver calls it.
        host_api: the system's sound interface it belongs to (ALSA, JACK, Core Audio, WASAPI, …).
        channels: 1 or 2: what we would open.
        sample_rate_hz: its own rate.
        latency_seconds: what PortAudio suggests for steady playing.
        default: whether the system plays there if nothing else is said.
    """

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate_hz: int
    latency_seconds: float
    default: bool


def _portaudio() -> Any:
    try:
        with without_stderr():
            import sounddevice
    except OSError as error:  # what sounddevice raises when the library is missing
        raise DeviceError(f"no sound: the PortAudio library is not here; {INSTALL_PORTAUDIO}") from error
    return sounddevice


def output_devices() -> list[OutputDevice]:
    """List every device that plays.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sounddevice = _portaudio()
    try:
        apis, rows = sounddevice.query_hostapis(), sounddevice.query_devices()
        default = sounddevice.default.device[1]
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"no sound: PortAudio says {_reason(error)}; {INSTALL_PORTAUDIO}") from error
    if default < 0 and apis:
        default = apis[0]["default_output_device"]
    return [_device(row, apis, default) for row in rows if row["max_output_channels"] > 0]


def _device(row: dict[str, Any], apis: Any, default: int) -> OutputDevice:
    return OutputDevice(
        index=row["index"],
        name=row["name"],
        host_api=apis[row["hostapi"]]["name"],
        channels=min(2, row["max_output_channels"]),
        sample_rate_hz=round(row["default_samplerate"]),
        latency_seconds=row["default_high_output_latency"],
        default=row["index"] == default,
    )


def rescan() -> None:
    """Let PortAudio look again for devices, which it does only when it starts; no stream may be open.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sounddevice = _portaudio()
    try:
        with without_stderr():
            sounddevice._terminate()
            sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"no sound: PortAudio says {_reason(error)}; {INSTALL_PORTAUDIO}") from error


def choose_device(wanted: str | None = None) -> OutputDevice:
    """Find the default device, or the one of a number, a name, a host API or part of "API: name", in this order.

    Raises:
        DeviceError: there is none, or none that fits; says which there are.
    """
    devices = output_devices()
    if not devices:
        raise DeviceError("no sound device: PortAudio finds none that plays")
    ordered = sorted(devices, key=lambda device: not device.default)  # of an API, its default if that is the system's
    if wanted is None:
        return ordered[0]
    rules: list[Callable[[OutputDevice], bool]] = [
        lambda device: wanted == str(device.index),
        lambda device: wanted.lower() in (device.name.lower(), _full_name(device)),
        lambda device: wanted.lower() == device.host_api.lower(),
        lambda device: wanted.lower() in _full_name(device),
    ]
    for fits in rules:
        if fitting := [device for device in ordered if fits(device)]:
            return fitting[0]
    names = ", ".join(f"{device.index} {device.name!r}" for device in devices[:8])
    raise DeviceError(f"no sound device fits {wanted!r}; there are: {names}")


def _full_name(device: OutputDevice) -> str:
    return f"{device.host_api}: {device.name}".lower()


class SoundCard:
    """A device playing what the ring holds; use it as a context manager.

    Args:
        device: which one.
        ring: its channels are the device's.
        latency_seconds: asked for, at least the device's own (docs/measurements.md, "Latency of a sound server").

    Attributes:
        late_callbacks: how often PortAudio itself reported that the callback came too late.
    """

    def __init__(self, device: OutputDevice, ring: Ring, latency_seconds: float = 0.1) -> None:
        self.late_callbacks = 0
        self._ring, self._name = ring, device.name
        sounddevice = _portaudio()
        try:
            with without_stderr():
                self._stream = sounddevice.OutputStream(
                    device=device.index,
                    samplerate=device.sample_rate_hz,
                    channels=device.channels,
                    dtype="float32",
                    latency=max(latency_seconds, device.latency_seconds),
                    callback=self._fill,
                )
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"sound device {device.name!r} does not open: {_reason(error)}") from error

    def _fill(self, out: NDArray[np.float32], _frames: int, _time: Any, status: Any) -> None:
        self._ring.read_into(out)
        if status:
            self.late_callbacks += 1

    @property
    def latency_seconds(self) -> float:
        """Time from the callback to the loudspeaker."""
        return float(self._stream.latency)

    @property
    def active(self) -> bool:
        """Whether the device still calls back, as far as PortAudio knows."""
        return bool(self._stream.active)

    def abandon(self) -> None:
        """Release a device that went away, without waiting for it."""
        with suppress(_portaudio().PortAudioError):
            self._stream.abort()
        with suppress(_portaudio().PortAudioError):
            self._stream.close()

    def __enter__(self) -> Self:
        """Start playing.

        Raises:
            DeviceError: the device opened but does not start.
        """
        sounddevice = _portaudio()
        try:
            self._stream.start()
        except sounddevice.PortAudioError as error:
            self.abandon()
            raise DeviceError(f"sound device {self._name!r} does not start: {_reason(error)}") from error
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Let what the device holds play out, and release it."""
        self._stream.stop()
        self._stream.close()


def _reason(error: Exception) -> str:
    return str(error.args[0] if error.args else error).rstrip(". ").replace("\n", " ")
