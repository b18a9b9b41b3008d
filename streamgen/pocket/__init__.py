"""The shipped checkpoint, and how it was made: `python -m streamgen.pocket STAGE`.

Rules: this file imports neither torch nor transformers, since the command line lists models through it. What training
needs is imported by the stages alone.

    compose.py     songs and captions, from seeds            synth.py      songs to sound, libfluidsynth
    corpus.py      rendered shards                           codec.py      training the codec
    mel.py         spectra and losses                        quantizer.py  residual vector quantizer, trainable
    captions.py    the text vocabulary                       language.py   the model and its lean forward
    copy_heads.py  heads that copy a bar, built in           training.py   tokenising, training the language model
    export.py      the folder `from_pretrained` reads        measures.py   what an ear would say, in numbers
    judge.py       the table of the model card               pictures.py   spectrograms as PNG
    pace.py        threads on a shared machine               stages.py     the commands
"""

import hashlib
from pathlib import Path

HASH_FILE = "SHA256SUMS"


def pocket_folder() -> Path:
    """The folder of the shipped checkpoint, in transformers' format."""
    return Path(__file__).parent / "weights"


def verify_pocket() -> None:
    """Check every shipped file against its hash.

    Raises:
        CheckpointError: a file is missing or differs; the message names it and says what to do.
    """
    from streamgen.errors import CheckpointError

    folder = pocket_folder()
    listing = folder / HASH_FILE
    if not listing.exists():
        raise CheckpointError(f"the shipped checkpoint is missing: {listing} not found; install streamgen again")
    for line in listing.read_text().splitlines():
        wanted, name = line.split("  ", 1)
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
        if found != wanted:
            raise CheckpointError(f"{path} is damaged: SHA-256 {found}, expected {wanted}; install streamgen again")
