"""A session at the sound card: which device, how it is opened, and how it is found again.

Rules: how it is fed, watched and opened again is `device.door`'s; PortAudio is asked on that door's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.doors.device.door import DeviceDoor
from bridge.doors.device.feeder import Feeder
from bridge.doors.door import Service
from bridge.doors.sound_card.card import OutputDevice, SoundCard, choose_device, output_devices, rescan
from bridge.errors import DeviceError
from bridge.settings import Settings

__all__ = ["SoundCardDoor"]

NAME = "sound"


class SoundCardDoor(DeviceDoor):
    """Plays the live session on a device, if the operator wants that and there is one; a named one may come later.

    Args:
        service: its settings name the device and the latency to ask for.

    Raises:
        DeviceError: a device was named, and there is no PortAudio to find it.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._latency_seconds, self._named = settings.latency, settings.output
        self._device = _chosen(settings) if settings.soundcard else None
        super().__init__(NAME, self._device is not None or (settings.soundcard and settings.output is not None))

    @property
    def device_name(self) -> str:
        """The device's own name."""
        return "" if self._device is None else self._device.name

    @property
    def place(self) -> str:
        """Its name, with the host API's before it."""
        return "" if self._device is None else f"{self._device.host_api}: {self._device.name}"

    def open_output(self, make_feeder: Callable[[int, int], Feeder]) -> tuple[Feeder, SoundCard]:
        """Open the device."""
        device = self._device = self._device or choose_device(self._named)  # says which there are, if it is not
        feeder = make_feeder(device.sample_rate_hz, device.channels)
        card = SoundCard(device, feeder.ring, self._latency_seconds)
        card.__enter__()
        return feeder, card

    def search(self) -> None:
        """Let PortAudio look for the same device: numbers change from scan to scan."""
        rescan()
        old = self._device
        self._device = choose_device(self._named) if old is None else self._same(old, output_devices())

    def _same(self, old: OutputDevice, devices: list[OutputDevice]) -> OutputDevice:
        """The device of the same name, or the default one if it was that."""
        named = [device for device in devices if (device.host_api, device.name) == (old.host_api, old.name)]
        default = [device for device in devices if device.default and old.default]
        if not named and not default:
            raise DeviceError(f"device {old.name!r} is not there")
        return (named or default)[0]


def _chosen(settings: Settings) -> OutputDevice | None:
    """Choose where to play; None is nowhere, or nowhere yet where a device was named. The service goes on without."""
    try:
        return choose_device(settings.output)
    except DeviceError as error:
        if settings.output is not None:
            output_devices()  # what can't come later is told at once
            return None
        logging.getLogger(f"bridge.{NAME}").warning("no sound here: %s", error)
        return None
