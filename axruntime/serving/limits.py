"""What a server lets a client ask for, and how it says no."""

import msgspec

from axforge.axcompiler.errors import AxforgeError


class ServingLimits(msgspec.Struct, frozen=True):
    """request_bytes: of the body of a request. pixels: of a picture, known before it is decoded. seconds: for which a request may take.

    waiting: frames that may wait for the engine, of all requests together.
    """

    request_bytes: int = 64_000_000
    pixels: int = 50_000_000
    seconds: float = 30.0
    waiting: int = 64


class Refused(Exception):
    """A request that gets no answer but a status and a sentence, which says what is wrong and what would be right."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def sentence_of(error: AxforgeError) -> str:
    """What a client reads of an error that its request has caused: what is wrong and what to do, without files of the server."""
    return " ".join(f"{error.what[0].upper()}{error.what[1:].rstrip('.')}. {error.fix}".split())
