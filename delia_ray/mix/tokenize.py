"""Chats as sequences of at most so many tokens."""

from delia_ray.chats.encode import Encoded, encode

__all__ = ["Encoded", "encode", "split"]


def split(encoded: Encoded, limit: int) -> list[Encoded]:
    """Pieces of at most ``limit`` tokens that hold supervised tokens; the others would teach
    nothing. The first token of a later piece has nothing before it, so it is not supervised."""
    pieces = [
        Encoded(encoded.ids[i : i + limit], encoded.supervised[i : i + limit].copy())
        for i in range(0, len(encoded.ids), limit)
    ]
    for piece in pieces:
        piece.supervised[0] = False
    return [p for p in pieces if p.supervised.any()]
