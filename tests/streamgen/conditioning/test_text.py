"""Text states against transformers on the same weights; which texts are refused, and how."""

from __future__ import annotations

import dataclasses
import random
import sys
import threading
from typing import Any

import pytest
import torch

from streamgen.conditioning import text as text_module
from streamgen.conditioning.text import MAX_TEXT, TextCache, TextConditioner, check_text
from streamgen.errors import PromptError

UNLIKE_LENGTHS = ["techno", "lofi piano with warm strings and slow drums at 80 bpm", "dark ambient pad, very slow"]
BAD_TEXTS = {
    "empty": "",
    "spaces": " \t\n\u00a0\u2003",
    "invisible": "\u200b\u200d\u202e",
    "NUL": "piano\x00",
    "escape": "pi\x1bano",
    "C1": "piano\x85",
    "lone surrogate": "piano \ud83c",
    "2,001 characters": "a" * 2001,
    "int": 7,
    "float nan": float("nan"),
    "bytes": b"piano",
    "list": ["piano"],
    "dict": {"text": "piano"},
    "object": object(),
}


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_states_equal_those_of_a_padded_batch_of_unlike_lengths(mono: Any, padding_side: str) -> None:
    batch = mono.tokenizer(UNLIKE_LENGTHS, padding=True, padding_side=padding_side, return_tensors="pt")
    with torch.no_grad():
        expected = mono.model.enc_to_dec_proj(mono.model.text_encoder(**batch).last_hidden_state)
    conditioner = TextConditioner(mono.checkpoint)
    assert len(set(batch["attention_mask"].sum(1).tolist())) == 3
    for text, states, mask in zip(UNLIKE_LENGTHS, expected, batch["attention_mask"].bool(), strict=True):
        torch.testing.assert_close(conditioner.encode(text), states[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_states_equal_what_the_decoder_gets_in_generate(mono: Any, guidance_scale: float) -> None:
    batch = mono.tokenizer(UNLIKE_LENGTHS, padding=True, return_tensors="pt")
    states = mono.encoder_hidden_states(**batch, guidance_scale=guidance_scale)
    conditioner = TextConditioner(mono.checkpoint)
    for text, row in zip(UNLIKE_LENGTHS, states, strict=False):
        ours = conditioner.encode(text)
        torch.testing.assert_close(ours, row[: len(ours)], atol=1e-5, rtol=0)
        assert not row[len(ours) :].any()
    assert not states[3:].any()  # the guidance rows: zeros, after the projection's bias


def test_states_of_an_encoder_as_wide_as_the_decoder_are_not_projected(mono: Any) -> None:
    shape = dataclasses.replace(mono.checkpoint.decoder, hidden_size=mono.model.text_encoder.config.d_model)
    checkpoint = dataclasses.replace(mono.checkpoint, decoder=shape, text_projection=None)
    ids = mono.tokenizer("slow drums", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = mono.model.text_encoder(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(TextConditioner(checkpoint).encode("slow drums"), expected, atol=1e-5, rtol=0)


def test_none_is_no_state_at_all(mono: Any) -> None:
    states = TextConditioner(mono.checkpoint).encode(None)
    assert states.shape == (0, 64)
    assert states.dtype == torch.float32


def test_a_decoder_alone_takes_only_none(mono: Any) -> None:
    checkpoint = dataclasses.replace(mono.checkpoint, text_encoder=None, tokenizer=None, text_projection=None)
    conditioner = TextConditioner(checkpoint)
    assert conditioner.encode(None).shape == (0, 64)
    with pytest.raises(PromptError, match="tiny-mono has no text encoder and can't read 'piano'"):
        conditioner.encode("piano")


@pytest.mark.parametrize("text", ["</s>", "<pad>", "</s> <pad>"])
def test_a_text_without_tokens_is_refused(mono: Any, text: str) -> None:
    with pytest.raises(PromptError, match="nothing is left"):
        TextConditioner(mono.checkpoint).encode(text)


def test_a_text_is_encoded_once(mono: Any, count_calls: Any) -> None:
    conditioner = TextConditioner(mono.checkpoint)
    calls = count_calls(mono.checkpoint.text_encoder)
    first, second = conditioner.encode("jazz trio"), conditioner.encode("jazz trio")
    assert len(calls) == 1
    assert torch.equal(first, second)


def test_a_caller_who_writes_into_states_spoils_no_other(mono: Any) -> None:
    conditioner = TextConditioner(mono.checkpoint)
    conditioner.encode("jazz trio").zero_()
    assert conditioner.encode("jazz trio").abs().max() > 0.1


def test_the_cache_is_bounded_and_forgets_the_least_recently_used(
    mono: Any, count_calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioner = TextConditioner(mono.checkpoint)
    lengths = {text: len(conditioner.encode(text)) for text in UNLIKE_LENGTHS}
    monkeypatch.setattr(conditioner._cache, "_limit", sum(lengths.values()))
    calls = count_calls(mono.checkpoint.text_encoder)
    conditioner.encode(UNLIKE_LENGTHS[0])  # used again: now the second is the oldest
    conditioner.encode("flute")
    assert len(calls) == 1
    conditioner.encode(UNLIKE_LENGTHS[0])
    assert len(calls) == 1
    conditioner.encode(UNLIKE_LENGTHS[1])
    assert len(calls) == 2
    assert sum(map(len, conditioner._cache._values.values())) <= sum(lengths.values())


def test_what_nobody_asked_for_between_two_times_is_forgotten_but_for_the_newest() -> None:
    cache: TextCache[str] = TextCache(100, len, threading.Lock)
    computed: list[str | None] = []

    def compute(text: str | None) -> str:
        computed.append(text)
        return "x" * 10

    for text in "abcde":
        cache.get(text, compute)
    cache.forget_unused(20)  # all were asked for since
    assert [cache.get(text, compute) for text in "ab"] == ["x" * 10] * 2
    cache.forget_unused(20)
    for text in "abcde":
        cache.get(text, compute)
    assert computed == [*"abcde", *"cde"]
    for _ in range(2):
        cache.forget_unused(20)
    for text in "dec":
        cache.get(text, compute)
    assert computed == [*"abcde", *"cde", "c"], "the newest two were kept"


def test_a_text_longer_than_the_cache_is_still_encoded(mono: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "CACHE_TOKENS", 3)
    conditioner = TextConditioner(mono.checkpoint)
    for text in (*UNLIKE_LENGTHS, *UNLIKE_LENGTHS):
        assert len(conditioner.encode(text)) > 3
    assert len(conditioner._cache._values) == 1


def test_another_device_leaves_the_checkpoint_on_its_own(mono: Any) -> None:
    conditioner = TextConditioner(mono.checkpoint, device="meta")
    assert conditioner.encode("piano").device.type == "meta"
    assert mono.checkpoint.text_encoder.device.type == "cpu"


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_bad_text_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(PromptError) as caught:
        check_text(BAD_TEXTS[name])
    message = str(caught.value)
    assert 20 < len(message) < 200
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "a" * MAX_TEXT,
        " piano ",
        "line\none\ttwo\r\n",
        "🎹🥁",
        "👩‍🎤",
        "موسيقى هادئة",
        "\u202eabc",
        "é e\u0301",
        "٣",
        "\ufffd",
    ],
)
def test_an_unusual_text_is_let_through_unchanged(mono: Any, text: str) -> None:
    assert check_text(text) is text
    ids = mono.tokenizer(text)["input_ids"]
    assert len(TextConditioner(mono.checkpoint).encode(text)) == len(ids)


def test_none_is_let_through() -> None:
    assert check_text(None) is None


def test_random_texts_give_states_or_a_prompt_error(mono: Any) -> None:
    conditioner, rng = TextConditioner(mono.checkpoint), random.Random(7)
    alphabet = [chr(rng.randrange(sys.maxunicode + 1)) for _ in range(300)] + list("abc \t\n\0\x7f</s>\ud800\u200b")
    refused = 0
    for _ in range(60):
        text = "".join(rng.choices(alphabet, k=rng.choice([0, 1, 3, 30])))
        try:
            states = conditioner.encode(text)
        except PromptError:
            refused += 1
        else:
            assert states.isfinite().all()
    assert 0 < refused < 60


class Rendezvous:
    """A computation that two threads meet in: it begins, and goes on when it is let."""

    def __init__(self) -> None:
        self.calls: list[str | None] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, text: str | None) -> str:
        self.calls.append(text)
        self.begun.set()
        assert self.go.wait(10)
        return f"states of {text}"


def test_a_text_that_two_threads_ask_for_at_once_is_computed_once() -> None:
    cache: TextCache[str] = TextCache(10, len, threading.Lock)
    compute, found = Rendezvous(), []
    threads = [threading.Thread(target=lambda: found.append(cache.get("piano", compute))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert compute.begun.wait(10)
    compute.go.set()
    for thread in threads:
        thread.join()
    assert found == ["states of piano"] * 3
    assert compute.calls == ["piano"]


def test_a_text_that_is_there_does_not_wait_for_one_that_is_computed() -> None:
    cache: TextCache[str] = TextCache(100, len, threading.Lock)
    cache.get("rock", lambda _: "states of rock")
    compute = Rendezvous()
    thread = threading.Thread(target=lambda: cache.get("piano", compute))
    thread.start()
    assert compute.begun.wait(10)
    assert cache.get("rock", compute) == "states of rock"
    compute.go.set()
    thread.join()
    assert compute.calls == ["piano"]


def test_a_text_that_cannot_be_computed_stops_no_other() -> None:
    cache: TextCache[str] = TextCache(100, len, threading.Lock)

    def refuse(text: str | None) -> str:
        raise PromptError(f"{text} is no text")

    for _ in range(2):
        with pytest.raises(PromptError, match="is no text"):
            cache.get("", refuse)
    assert cache.get("piano", lambda _: "states") == "states"


def test_words_without_a_token_are_told_once(mono: Any, caplog: pytest.LogCaptureFixture) -> None:
    conditioner = TextConditioner(mono.checkpoint)
    tokenizer = mono.checkpoint.tokenizer
    assert tokenizer.unknown in tokenizer.ids("piano \u266b\U0001f3b9"), "else this test says nothing"
    with caplog.at_level("WARNING", logger="streamgen"):
        conditioner.encode("piano")
        assert caplog.messages == []
        conditioner.encode("piano \u266b\U0001f3b9")
        conditioner.encode("strings \u266b\U0001f3b9")
        conditioner.encode("\u202e\u266b")
    line, hostile = caplog.messages
    assert "has no token for '\u266b\U0001f3b9': not heard" in line
    assert "'\\u202e\u266b'" in hostile, "what turns a terminal's line round is shown, not obeyed"


# -- states of one's own -----------------------------------------------------------------------------------------------


def test_a_text_has_the_states_it_was_given(mono: Any) -> None:
    conditioner = TextConditioner(mono.checkpoint)
    own, narrow = torch.randn(5, 64), torch.randn(3, 48)
    conditioner.give("anything", own)
    conditioner.give("narrow", narrow)
    conditioner.give("anything", own.clone())  # the same ones: nothing to mind
    assert torch.equal(conditioner.encode("anything"), own)
    weight, bias = mono.checkpoint.text_projection
    assert torch.equal(conditioner.encode("narrow"), torch.nn.functional.linear(narrow, weight, bias))
    with pytest.raises(PromptError, match="'anything' has other states already: give these another name"):
        conditioner.give("anything", own + 1)


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (torch.zeros(5, 32), r"D = 64 or 48, of finite numbers, not of shape \[5, 32\]"),
        (torch.zeros(64), r"not of shape \[64\]"),
        (torch.zeros(0, 64), r"not of shape \[0, 64\]"),
        (torch.zeros(5, 64, dtype=torch.int64), "not a tensor of torch.int64"),
        ([[0.0]], "not list"),
        (torch.full((5, 64), torch.nan), "these have NaN or infinity"),
    ],
)
def test_states_that_cannot_be_used_are_refused(mono: Any, states: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        TextConditioner(mono.checkpoint).give("anything", states)
