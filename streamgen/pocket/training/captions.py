"""Captions of songs, a sentencepiece vocabulary made of them for the text encoder, and which of their words name what.

Rules: knows captions and transformers' tokenizer, no sound. Numbers stay whole ("125" is one token): split into digits,
a pilot learned no tempo at all. Pieces never hold a space, which transformers 5 would turn into the unknown token.
Upper and lower case are both in the vocabulary: transformers' T5 tokenizer keeps no normalizer when it is loaded again.
"""

import io
import random
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from transformers import T5Tokenizer

from streamgen.pocket.training.compose import FRAMES_PER_STEP, KEY_NAMES, Song, songs_of_every_style, training_song
from streamgen.pocket.training.styles import STYLES

VOCABULARY = 400
TEMPO_WORDS = {150: ("fast", "quick"), 125: ("mid tempo", "medium tempo"), 94: ("slow", "slow tempo")}
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-#&'.,!?:;()/"


def train_tokenizer(folder: Path, captions: int = 6000) -> T5Tokenizer:
    """Fit the vocabulary on training captions and save the tokenizer in `folder`; one already there is taken."""
    if (folder / "tokenizer.json").exists():
        known: T5Tokenizer = T5Tokenizer.from_pretrained(folder)
        return known
    rng = random.Random("captions")
    lines = [written(caption(training_song(number), rng), rng) for number in range(captions)]
    lines += [" ".join(ALPHABET)] * 50  # any word can at least be spelled
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["▁150", "▁125", "▁94", "▁bpm"],
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = [(pieces.id_to_piece(i), _score(pieces, i)) for i in range(pieces.get_piece_size())]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=64)
    tokenizer.save_pretrained(folder)
    return tokenizer


def written(text: str, rng: random.Random) -> str:
    """The caption as people type it: mostly lower case, sometimes with a capital at the front or on every word."""
    draw = rng.random()
    if draw < 0.7:
        return text.lower()
    return text.title() if draw < 0.8 else text[:1].upper() + text[1:]


def _score(pieces: sentencepiece.SentencePieceProcessor, index: int) -> float:
    return 0.0 if pieces.is_control(index) or pieces.is_unknown(index) else float(pieces.get_score(index))


def caption(song: Song, rng: random.Random, complete: bool = False) -> str:
    """Describe a song in varied words.

    Args:
        song: what is played.
        rng: chooses synonyms, order and what is left unsaid.
        complete: say everything (used to judge: a caption that leaves the tempo out cannot be held to it).
    """
    style = STYLES[song.style]
    wanted = [rng.choice(style.names)]
    if complete or rng.random() < 0.75:
        wanted.append(_instrument_words(song, rng))
    if complete or rng.random() < 0.85:
        wanted.append(rng.choice((f"{song.bpm} bpm", f"at {song.bpm} bpm", f"tempo {song.bpm}")))
    elif rng.random() < 0.6:
        wanted.append(rng.choice(TEMPO_WORDS[song.bpm]))
    if complete or rng.random() < 0.6:
        wanted.append(f"in {song.key}")
    if complete or rng.random() < 0.5:
        wanted.append(song.mood)
    if not complete and rng.random() < 0.1:
        wanted = wanted[1:] or wanted  # instruments and tempo alone must work too
    rng.shuffle(wanted)
    return rng.choice((", ", " ", ", ")).join(wanted)


def captioned_songs(count: int, seed: int = 0) -> list[tuple[Song, str]]:
    """The held-out songs that a checkpoint is judged by, as many of every style, and their complete captions."""
    rng = random.Random(seed)
    return [(song, caption(song, rng, complete=True).lower()) for song in songs_of_every_style(count)]


def _instrument_words(song: Song, rng: random.Random) -> str:
    words = list(song.instruments)
    rng.shuffle(words)
    return rng.choice((" and ", ", ", " ")).join(words)


# -- which words name the tempo, the style and the key of a song -------------------------------------------------------

TEMPI, TONICS, STYLE_NAMES = tuple(FRAMES_PER_STEP), tuple(KEY_NAMES), tuple(STYLES)
GROUPS = (len(TEMPI), len(STYLE_NAMES), len(TONICS))
NAMES = sum(GROUPS)


def _places(song: Song) -> tuple[int, int, int]:
    tempo, style, tonic = TEMPI.index(song.bpm), STYLE_NAMES.index(song.style), TONICS.index(song.tonic)
    return tempo, len(TEMPI) + style, len(TEMPI) + len(STYLE_NAMES) + tonic


def tokens_that_name(text: str, song: Song, tokenizer: T5Tokenizer) -> tuple[list[int], Tensor]:
    """Token ids [S] of a song's caption, and what each names, float32 [S, 21]."""
    words = text.split(" ")
    spoken = [word.strip(",").lower() for word in words]
    named = [torch.zeros(NAMES) for _ in words]
    tempo, style, tonic = _places(song)
    for place, word in enumerate(spoken):
        named[place][tempo] = word == str(song.bpm)
        named[place][tonic] = spoken[place : place + 2] == song.key.lower().split()
        for name in STYLES[song.style].names:
            length = len(name.split())
            if spoken[place : place + length] == name.split():
                for part in named[place : place + length]:
                    part[style] = 1
    ids, rows = list[int](), list[Tensor]()
    for word, names in zip(words, named, strict=True):
        for number in tokenizer(word, add_special_tokens=False)["input_ids"]:
            ids.append(number)
            rows.append(names * any(letter.isalnum() for letter in tokenizer.decode(number)))
    return [*ids, tokenizer.eos_token_id], torch.stack([*rows, torch.zeros(NAMES)])
