"""The shipped checkpoint. training/ makes and judges it, and stays out of the wheel.

Rules: imports neither torch nor transformers, since the command line lists models through it.
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
