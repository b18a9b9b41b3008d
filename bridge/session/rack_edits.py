"""The session's side of the rack: edits that change the table, and what becomes of effects, as events.

Rules: engine's thread; plain calls on a rack and a table. Making an effect takes time: the session has done it before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge.audio.rack import MAX_SLOTS, Rack
from bridge.session.commands import EditRack, RackAction
from bridge.session.events import Changed, Event, TableChanged
from bridge.session.parameters import Parameters
from streamgen.config import ControlSpec
from streamgen.errors import CapacityError

__all__ = ["check_edit", "edited", "gone", "news"]


def check_edit(rack: Rack, command: EditRack, waiting: int) -> None:
    """Say whether there is a place for what is to be made: a plugin need not be loaded to find out.

    Args:
        rack: to be edited.
        command: how.
        waiting: edits that wait for their time before it, if it waits.

    Raises:
        CapacityError: the rack is full, or as many edits as it has slots wait, each with its effect.
        ConfigError: there is no such slot.
    """
    if waiting >= MAX_SLOTS:
        raise CapacityError(f"{MAX_SLOTS} edits of the rack wait for their time already; let some of them pass")
    if command.action is RackAction.ADD:
        rack.check_room()
    else:
        rack.check(command.slot)


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


def gone(before: Mapping[str, ControlSpec], after: Mapping[str, ControlSpec], command: EditRack) -> set[str]:
    """Return the parameters of a table that an edit has taken away, or given to another effect."""
    replaced = f"plugin/{command.slot}/" if command.action is RackAction.REPLACE else None
    return {
        name
        for name, spec in before.items()
        if after.get(name) != spec or (replaced is not None and name.startswith(replaced))
    }


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
