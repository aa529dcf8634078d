"""Messages that stand a row each and name the one they reply to (OpenAssistant's export): each
tree becomes one chat, along the replies that people ranked best."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from delia_ray.ingest.columns import is_missing
from delia_ray.ingest.rows import Bad, Numbered, excerpt

JOINED = "a turn in the chat of another row"
OTHER = "another reply is ranked higher"
_NEEDED = ("message_id", "role", "text")
_PARENT = "parent_id"


def is_tree(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether all of ``rows`` (at least one) are messages with a parent."""
    return bool(rows) and all(
        _PARENT in row and all(isinstance(row.get(key), str) for key in _NEEDED) for row in rows
    )


def chats(rows: Iterable[Numbered]) -> Iterator[Numbered]:
    """One row ``{"messages": [...]}`` in the place of each tree's first message; in the places of
    the others why they are none. Holds the whole file, whose rows come in any order."""
    held: list[Numbered] = list(rows)
    places: dict[str, int] = {}
    for place, (_, row) in enumerate(held):
        if not isinstance(row, Bad) and is_tree([row]):
            places.setdefault(row["message_id"], place)
    replies: dict[str, list[int]] = {}
    for name, place in places.items():
        parent = _parent(held[place][1])
        if parent in places and parent != name:
            replies.setdefault(parent, []).append(place)
    found: dict[int, dict[str, Any] | Bad] = {}
    for name, place in places.items():
        if _parent(held[place][1]) in places:
            continue
        path = _best(name, place, held, replies)
        for at in path[1:]:
            detail = f"row {held[place][0]}"
            found[at] = Bad(JOINED, detail, excerpt(held[at][1]))
        found[place] = _chat([held[at][1] for at in path])
    for place, (number, row) in enumerate(held):
        if isinstance(row, Bad) or place in found:
            yield number, found.get(place, row)
        elif row.get("message_id") in places:
            yield number, Bad(OTHER, "", excerpt(row))
        else:
            yield number, row


def _parent(row: Any) -> str:
    return str(row[_PARENT]) if not is_missing(row[_PARENT]) else ""


def _best(name: str, place: int, held: list[Numbered], replies: dict[str, list[int]]) -> list[int]:
    """Places from the first message of a tree along the best reply to each."""
    path, seen = [place], {name}
    while name in replies:
        place = min(replies[name], key=lambda at: (_rank(held[at][1]), at))
        name = str(held[place][1]["message_id"])  # type: ignore[index]
        if name in seen:
            break
        seen.add(name)
        path.append(place)
    return path


def _rank(row: Any) -> float:
    """0 is the best; a reply without a rank comes after those with one."""
    rank = row.get("rank")
    usable = isinstance(rank, (int, float)) and not is_missing(rank)
    return float(rank) if usable else float("inf")


def _chat(path: Sequence[Any]) -> dict[str, Any]:
    turns = [{"role": row["role"], "content": row["text"]} for row in path]
    kept = {k: v for k, v in path[0].items() if k not in (*_NEEDED, _PARENT)}
    return {"messages": turns, **kept}
