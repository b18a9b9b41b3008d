"""A small T5 tokenizer, trained here on a few music words.

Rules: the result is transformers' own tokenizer class; the same words give the same vocabulary.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import T5Tokenizer

__all__ = ["tiny_tokenizer"]

WORDS = """lofi piano with warm strings and slow drums at 80 bpm
techno with a hard kick and acid bass at 130 bpm
acoustic guitar folk song in a major key, bright and happy
dark ambient pad, deep bass, no drums, very slow
jazz trio with upright bass, brushed drums and saxophone
funky disco groove with slap bass and electric guitar
calm flute over soft synth chords, peaceful and quiet
heavy metal with distorted guitars and fast double kick drums
house music at 124 bpm with claps, hats and organ stabs
orchestral film score with brass, choir and timpani
the quick brown fox jumps over the lazy dog 0123456789 ' - . , : ; ! ? ( ) / & # +""".splitlines()
VOCABULARY_SIZE = 200


def tiny_tokenizer() -> T5Tokenizer:
    """Train the vocabulary (well under a second) and return a T5 tokenizer over it: pad 0, end 1, unknown 2."""
    from sentencepiece import SentencePieceProcessor
    from transformers import T5Tokenizer

    processor = SentencePieceProcessor(model_proto=_train())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    # Spaces must already be sentencepiece's "▁" here: transformers 5 splits on white space before it looks pieces up,
    # so a piece that holds a real space can never match and comes out as <unk>.
    assert not any(" " in piece for piece, _ in pieces), pieces
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def _train() -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS), model_writer=model, vocab_size=VOCABULARY_SIZE, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, num_threads=1, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()
