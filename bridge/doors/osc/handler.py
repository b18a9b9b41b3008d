"""OSC packets in, commands to the session and answers out. Event loop, no socket of its own.

    packet ─ limits ─ decode ─ interpret ─┬─► the client's queue ─► session.do          at once, in the client's order
                                          └─► session.do(…, at=the bundle's time): the session's schedule, no timer here

Rules: no input raises anything out of `packet`; nothing waits inside the loop. Whether a client may ask and be answered
is admission's, in which order is clients', who else is told is feedback's, when it sounds is the session's timeline's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby

from bridge.doors.access import Access
from bridge.doors.limits import Turns
from bridge.doors.osc.admission import Admission, OscCounters, OscLimits, price
from bridge.doors.osc.clients import Client, Clients, RequestQueue
from bridge.doors.osc.codec import Argument, Message, OscError, decode, encode
from bridge.doors.osc.feedback import Feedback, UdpSend
from bridge.doors.osc.namespace import (
    PREFIX,
    PRESETS,
    RACK,
    Assign,
    AtOnce,
    Ignored,
    Light,
    Login,
    Namespace,
    Query,
    Request,
    SessionRequest,
    Subscribe,
    SubscribeAudio,
)
from bridge.session.commands import Action, Command, EditRack, KeepTake, SavePreset, Set, Transport
from bridge.session.session import Session
from bridge.session.timeline import Moment
from streamgen.errors import StreamgenError

__all__ = ["RequestHandler"]

_log = logging.getLogger("bridge.osc")


class RequestHandler:
    """Everything about OSC but its sockets.

    Args:
        session: what is played.
        access: what hosts other than this one must show.
        limits: what clients may take.
        counters: of the door.
        udp_send: sends a datagram; False if it could not.

    Attributes:
        namespace: the session's addresses; feedback rebuilds it when the session's table changes.
        admission: who may ask how much.
        clients: who has spoken lately.
        feedback: who is told what happens.
    """

    def __init__(
        self, session: Session, access: Access, limits: OscLimits, counters: OscCounters, udp_send: UdpSend
    ) -> None:
        self.session, self.limits, self.counters, self._udp_send = session, limits, counters, udp_send
        self.namespace, turns = Namespace(session.table), Turns()
        self.clients = Clients(limits.clients, limits.errors_per_second, self._reply, self._read, turns)
        self.feedback = Feedback(session, self.namespace, self.clients, limits, counters, udp_send, turns)
        self.admission = Admission(limits, counters, access, self.feedback.__contains__, self.feedback.tell_elsewhere)
        self._queue = RequestQueue(self._carry_out, turns, limits.pending)
        self._queue.spawn(self.feedback.run())
        # how many changes of the transport had been told when it was asked to halt: until the next, that may wait
        self._halts_behind: int | None = None

    def _reply(self, client: Client, packet: bytes) -> None:  # a method, for clients are made before admission
        self.admission.reply(client, packet)

    def _read(self, address: str) -> bytes | None:
        return self.feedback.read(address)

    async def close(self, reason: str) -> None:
        """Say goodbye, leave the session, answer nothing more."""
        self.feedback.close(reason)
        for client in self.clients:
            self.clients.forget(client)
        await self._queue.close()

    # -- clients ------------------------------------------------------------------------------------------------------

    def udp_client(self, address: tuple[str, int]) -> Client:
        """Return the client at a datagram's source."""
        key = address[:2]
        known = self.clients.get(key)
        return known or self.clients.meet(key, address, lambda packet: self._udp_send(packet, address), connected=False)

    def leave(self, client: Client) -> None:
        """Forget a client whose connection is no more, and what it subscribed for that."""
        self.clients.forget(client)
        self.feedback.left(client)

    # -- packets in ---------------------------------------------------------------------------------------------------

    def packet(self, client: Client, data: bytes) -> float:
        """Take a packet.

        Returns:
            Seconds for which a TCP client shall not be read; a datagram over the rate is dropped instead.
        """
        self.counters.packets += 1
        client.earn(self.limits.amplification * len(data))
        try:
            return self._packet(client, data)
        except OscError as error:
            self.admission.refuse(client, error)
        return self.admission.charge(client, 1) if client.connected else 0.0

    def _packet(self, client: Client, data: bytes) -> float:
        if not client.connected and self.admission.charge_bytes(client, len(data)):
            return 0.0
        messages = decode(data)
        self.counters.messages += len(messages)
        cost = price(messages) - (not client.connected)  # a datagram has paid for one
        wait = self.admission.charge(client, cost) if cost > 0 else 0.0
        if wait and not client.connected:
            return 0.0
        for at, group in groupby(messages, lambda message: message.at):
            self._messages(client, list(group), at)
        return wait

    def _messages(self, client: Client, messages: list[Message], at: float | None) -> None:
        requests = [request for message in messages for request in self._interpret(client, message)]
        if any(not isinstance(request, Ignored) for request in requests):
            self.feedback.renew(client)
        now = self.session.timeline.wall()
        if at is None or at <= now:
            self.counters.late += at is not None
            self._put(client, requests)
            return
        for request in requests:
            if isinstance(request, AtOnce):
                error = OscError("this is done at once: send it in no bundle for later", "time", _address(request))
                self.admission.refuse(client, error)
        self._put(client, [request for request in requests if not isinstance(request, SessionRequest)])
        self._schedule(client, [request for request in requests if isinstance(request, Assign | Transport)], at, now)

    def _interpret(self, client: Client, message: Message) -> list[Request]:
        """Tell what a message asks for; nothing if that is refused."""
        try:
            requests = [_shown(client, request) for request in self.namespace.interpret(message)]
            for request in requests:
                self.admission.check(client, request)
        except OscError as error:
            self.admission.refuse(client, error)
            return []
        return requests

    # -- commands -----------------------------------------------------------------------------------------------------

    def _schedule(self, client: Client, requests: Sequence[Assign | Transport], at: float, now: float) -> None:
        """Hand a bundle's commands to the session for their time."""
        if not requests:
            return
        try:
            self.admission.check_time(client, at, now)
        except OscError as error:
            self.admission.refuse(client, OscError(f"{error}", error.reason, _address(requests[0])))
            return
        self.counters.scheduled += len(requests)
        self._queue.spawn(self._do_in_order(client, _together(requests), Moment(unix_seconds=at)))

    async def _do_in_order(self, client: Client, requests: Iterable[Assign | Transport], at: Moment) -> None:
        for request in requests:
            await self._do(client, request, at)

    def _put(self, client: Client, requests: Sequence[Request]) -> None:
        lost = self._queue.put(client, requests)
        if lost:
            self.counters.dropped["busy"] += lost
            self.admission.tell_error(client, "", f"{self.limits.pending} messages wait, the limit: {lost} lost")

    async def _carry_out(self, client: Client, request: Request) -> None:
        try:
            if isinstance(request, Assign):
                await self._assign(client, request)
            elif isinstance(request, Transport):
                await self._act(client, request)
            elif isinstance(request, AtOnce):
                await self._do(client, request)
            else:
                self._serve(client, request)
        except OscError as error:
            self.admission.refuse(client, error)

    async def _assign(self, client: Client, request: Assign) -> None:
        present = self.session.values()
        values = {name: value for name, value in request.values.items() if present.get(name) != value}
        if values:  # without a change there is no echo: controllers that mirror would swing for ever
            await self._do(client, replace(request, values=values))

    async def _act(self, client: Client, request: Transport) -> None:
        told = self.feedback.transports
        will_play = self.session.state().plays and self._halts_behind != told
        if request.action is (Action.PLAY if will_play else Action.PAUSE):
            return
        if await self._do(client, request):
            self._halts_behind = told if request.action in (Action.PAUSE, Action.STOP) else None

    async def _do(self, client: Client, request: SessionRequest, at: Moment | None = None) -> bool:
        self.counters.commands += 1
        client.used.update(request.addresses if isinstance(request, Assign) else ())
        command = _command(request, client.by, at)
        try:
            await self.session.do(command)
            return True
        except StreamgenError as error:
            self.admission.refuse(client, OscError(f"{error}", "value", _address(request)))
        except Exception:  # noqa: BLE001 - the door must outlive whatever the session does; the client is told
            _log.exception("the session failed at %s", command)
            text = "the server failed at this; its log says why"
            self.admission.refuse(client, OscError(text, "failed", _address(request)))
        return False

    # -- services -----------------------------------------------------------------------------------------------------

    def _serve(self, client: Client, request: Request) -> None:
        if isinstance(request, Query):
            self._answer(client, request)
        elif isinstance(request, Login):
            self.admission.log_in(client, request.token)
        elif isinstance(request, Subscribe):
            answer = self.feedback.change(client, request)
            if answer is not None:
                self.admission.reply(client, answer)
        elif isinstance(request, SubscribeAudio):
            if request.on and not self.admission.proved(client):  # packets for whatever address a stranger wrote
                raise OscError("show the token first, or ask over TCP", "token", f"{PREFIX}audio/subscribe")
            self.feedback.change_audio(client, request)

    def _answer(self, client: Client, query: Query) -> None:
        if query.what == "refresh":
            packets = [self._read(address) for address in (*self.namespace.readable, RACK, PRESETS)]
        elif query.what == "version":
            packets = [encode(f"{PREFIX}version", _version())]
        elif query.what == "ping":
            packets = [_pong(query.arguments)]
        else:
            packets = [self._read(query.what)]
        for packet in packets:
            if packet is not None:
                self.admission.reply(client, packet)


def _command(request: SessionRequest, by: str, at: Moment | None) -> Command:
    match request:
        case Assign():
            return Set(request.values, by, at, request.glide_seconds)
        case Transport():
            return replace(request, by=by, at=at)
    return replace(request, by=by)


def _address(request: SessionRequest) -> str:
    match request:
        case Assign():
            return request.addresses[0]
        case Transport():
            return PREFIX + request.action
        case EditRack():
            return f"{RACK}/{request.action}"
        case KeepTake():
            return f"{PREFIX}keep"
    if request.slot:
        return f"{RACK}/{'save' if isinstance(request, SavePreset) else 'load'}"
    return f"{PREFIX}preset/{'save' if isinstance(request, SavePreset) else 'recall'}"


def _shown(client: Client, request: Request) -> Request:
    """Make of a light what its transport has come to do."""
    if not isinstance(request, Light):
        return request
    action = client.lights.show(request)
    return Ignored() if action is None else Transport(action, "")


def _together(requests: Iterable[Assign | Transport]) -> list[Assign | Transport]:
    """Make one of changes that follow each other."""
    out: list[Assign | Transport] = []
    for request in requests:
        last = out[-1] if out else None
        if isinstance(request, Assign) and isinstance(last, Assign) and last.goes_with(request):
            out[-1] = last.merged(request)
        else:
            out.append(request)
    return out


def _pong(arguments: tuple[Argument, ...]) -> bytes:
    """Answer a ping: under its address if it is bare, else pong with its argument; pongs are never answered."""
    if arguments and isinstance(arguments[0], int | float | str | bytes) and arguments[0] != b"":
        return encode(f"{PREFIX}pong", arguments[0])
    return encode(f"{PREFIX}pong") if arguments else encode(f"{PREFIX}ping", 1)


def _version() -> str:
    try:
        return version("streamgen")
    except PackageNotFoundError:  # run from a checkout
        return "0"
