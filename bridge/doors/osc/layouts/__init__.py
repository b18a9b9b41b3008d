"""Surfaces and scripts for programs that speak OSC, made from the session's table: no list is kept by hand.

surface.py   what all are made from
panels.py    TouchOSC · REAPER · Open Stage Control
patches.py   Max · Pure Data
scripts.py   Csound · SuperCollider · TidalCycles · Sonic Pi
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.doors.osc.layouts.panels import open_stage_control, reaper, touchosc
from bridge.doors.osc.layouts.patches import max_patcher, pure_data
from bridge.doors.osc.layouts.scripts import csound, sonic_pi, supercollider, tidal
from bridge.doors.osc.layouts.surface import Surface

__all__ = ["LAYOUTS", "Surface"]

LAYOUTS: dict[str, Callable[[Surface], bytes]] = {
    "streamgen.tosc": touchosc,
    "streamgen.ReaperOSC": reaper,
    "open-stage-control.json": open_stage_control,
    "streamgen.maxpat": max_patcher,
    "streamgen.pd": pure_data,
    "streamgen.csd": csound,
    "streamgen.scd": supercollider,
    "streamgen.tidal": tidal,
    "sonic-pi.rb": sonic_pi,
}
"""What there is, by the file's name."""
