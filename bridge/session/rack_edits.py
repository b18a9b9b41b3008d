"""The session's side of the rack: edits that change the table, and what becomes of effects, as events.

Rules: engine's thread; plain calls on a rack and a table. Making an effect takes time: the session has done it before.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.audio.rack import Rack
from bridge.session.commands import EditRack, RackAction
from bridge.session.events import Changed, Event, TableChanged
from bridge.session.parameters import Parameters

__all__ = ["edited", "news"]


def edited(rack: Rack, parameters: Parameters, command: EditRack) -> TableChanged:
    """Edit the rack and the table; returns what to tell.

    What is in other slots keeps its values, and a slot keeps its mix whatever takes it over.

    Raises:
        CapacityError, ConfigError: it cannot be done; nothing is changed.
    """
    before = set(rack.parameters)
    slot = _done(rack, command)
    anew = {f"plugin/{slot}/{name}" for name in rack.effect(slot).parameters} if command.made is not None else set()
    fixed = {name: spec for name, spec in parameters.table.items() if name not in before}
    parameters.retable({**fixed, **rack.parameters}, anew)
    parameters.values.update(rack.values(slot) if command.made is not None else {})
    return TableChanged(parameters.table, dict(parameters.values), rack.state(), command.by)


def _done(rack: Rack, command: EditRack) -> int:
    """Carry it out; returns the slot it was about."""
    if command.action is RackAction.ADD:
        return rack.add(command.made, command.effect, command.index, command.slot)
    if command.action is RackAction.REPLACE:
        rack.replace(command.slot, command.made, command.effect)
    elif command.action is RackAction.REMOVE:
        rack.remove(command.slot)
    else:
        rack.move(command.slot, len(rack.state()) if command.index is None else command.index)
    return command.slot


def news(rack: Rack, parameters: Parameters, position: int) -> Iterator[Event]:
    """Yield what became of effects since the last call, and what plugins turned by themselves."""
    yield from rack.take_faults()
    if moves := rack.take_moves():
        parameters.values.update(moves)
        yield Changed(moves, "plugin", position)
