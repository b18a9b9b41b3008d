"""What waits to be sent to one listener: bounded, oldest audio dropped first, messages in their order among the audio.

        put_block, put_note ─►  ┌ note ┬ block ┬ block ┬ note ┬ block ┐  ─► take
                                └──────┴───────┴───────┴──────┴───────┘
        too much audio:            the oldest block goes, and a Gap takes its place

Rules: no I/O, no clock. A slow listener costs `limit_samples` of audio and MAX_NOTES messages, whatever it does.
Answers to its own requests are never dropped: whoever reads its requests must wait while `answers` is high.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from bridge.session.messages import Block, Gap

__all__ = ["MAX_ANSWERS", "MAX_NOTES", "Note", "Outbox"]

MAX_NOTES = 256
MAX_ANSWERS = 32
_URGENT = ("answer", "goaway")  # do not wait until the peer has heard more


@dataclass(frozen=True)
class Note:
    """A text message.

    Attributes:
        kind: "answer" (kept), "stats" (the newest replaces the last), "resync" (stands for all that was dropped), or
            any other event.
        text: what to send; "" for "resync".
    """

    kind: str
    text: str


class Outbox:
    """One listener's queue.

    Attributes:
        queued_samples: audio waiting.
        dropped_samples: audio dropped so far.
        answers: answers waiting.
    """

    def __init__(self, limit_samples: int) -> None:
        self.limit_samples = limit_samples
        self.queued_samples = 0
        self.dropped_samples = 0
        self.answers = 0
        self._count = 0
        self._blocks: deque[tuple[int, Block]] = deque()
        self._notes: deque[tuple[int, Note]] = deque()
        self._gap: Gap | None = None

    def __len__(self) -> int:
        """How many blocks and messages wait."""
        return len(self._blocks) + len(self._notes)

    def put_block(self, block: Block) -> int:
        """Add audio; returns how many samples were dropped for it."""
        self._blocks.append((self._next(), block))
        self.queued_samples += block.samples.shape[1]
        before = self.dropped_samples
        while self.queued_samples > self.limit_samples and len(self._blocks) > 1:
            self._drop()
        return self.dropped_samples - before

    def put_note(self, note: Note) -> None:
        """Add a message."""
        if note.kind == "stats":
            self._notes = deque(entry for entry in self._notes if entry[1].kind != "stats")
        elif note.kind != "answer" and len(self._notes) - self.answers >= MAX_NOTES:
            self._notes = deque(entry for entry in self._notes if entry[1].kind == "answer")
            note = Note("resync", "")
        self.answers += note.kind == "answer"
        self._notes.append((self._next(), note))

    def discard(self, from_sample: int) -> None:
        """Forget queued audio from here on: newer audio for the same samples follows."""
        kept = [(number, block) for number, block in self._blocks if block.start_sample < from_sample]
        self._blocks = deque((number, _before(block, from_sample)) for number, block in kept)
        self.queued_samples = sum(block.samples.shape[1] for _, block in self._blocks)

    def clear_audio(self) -> None:
        """Forget all audio, without a gap: the listener wants none."""
        self._blocks.clear()
        self._gap, self.queued_samples = None, 0

    def take(self) -> Block | Note | Gap | None:
        """Remove and return what is to be sent next; None if nothing waits."""
        if self._notes and (not self._blocks or self._notes[0][0] < self._blocks[0][0]):
            note = self._notes.popleft()[1]
            self.answers -= note.kind == "answer"
            return note
        if not self._blocks:
            return None
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        block = self._blocks.popleft()[1]
        self.queued_samples -= block.samples.shape[1]
        return block

    def take_urgent(self) -> Note | None:
        """Remove and return the oldest answer or goodbye, whatever else waits; None if there is none."""
        for entry in self._notes:
            if entry[1].kind in _URGENT:
                self._notes.remove(entry)
                self.answers -= entry[1].kind == "answer"
                return entry[1]
        return None

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _drop(self) -> None:
        block = self._blocks.popleft()[1]
        samples = block.samples.shape[1]
        self.queued_samples -= samples
        self.dropped_samples += samples
        if self._gap is None:
            self._gap = Gap(block.start_sample, samples, "slow_client")
        else:
            self._gap = Gap(self._gap.from_sample, self._gap.samples + samples, "slow_client")


def _before(block: Block, sample: int) -> Block:
    if block.end_sample <= sample:
        return block
    keep = sample - block.start_sample
    return Block(block.samples[:, :keep], block.start_sample, block.discontinuity, block.prompt_change, block.time_us)
