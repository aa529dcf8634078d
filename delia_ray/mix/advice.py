"""What helps against the reasons for which rows cannot be trained on."""

from collections.abc import Mapping

from delia_ray.chats.texts import DIFFERS, JOINED, MARKERS, NO_END, OWN_THOUGHT, REFUSES, REWRITES

ADVICE: dict[str, str] = {
    REFUSES: (
        "its words say what it lacks; where it is a system turn, set turns.system=drop for the "
        "source (downstream.turns.system=drop)"
    ),
    DIFFERS: (
        "use mix.turns=last, or a copy of the model with a chat_template.jinja whose generation "
        "prompt begins the answered chat"
    ),
    NO_END: (
        "use a copy of the model with a chat_template.jinja that writes eos_token behind an "
        "answer, or with the token that does end it in eos_token_id of generation_config.json"
    ),
    REWRITES: ("use a copy of the model with a chat_template.jinja that writes content as it is"),
    OWN_THOUGHT: (
        "set turns.reasoning=drop for the source (downstream.turns.reasoning=drop), or use a copy "
        "of the model with a chat_template.jinja that writes content as it is"
    ),
    JOINED: "begin the answers without space or a line break",
    MARKERS: "correct or leave out {% generation %} in the chat template",
    "longer than mix.max_length": "raise mix.max_length, or set mix.overlong=split",
}
"""Reason, or how it begins, -> advice."""


def nothing_to_train(reasons: Mapping[str, int], max_length: int) -> str:
    """The error where no downstream row is left.

    Args:
        reasons: "kind, reason" -> rows.
    """
    mine = {r.partition(", ")[2]: n for r, n in reasons.items() if r.startswith("downstream")}
    said = ", ".join(f"{n:,} rows: {reason}" for reason, n in mine.items()) or "there is none"
    advice = advice_for(mine) or [f"raise mix.max_length={max_length}"]
    return f"no downstream row can be trained on ({said}); {'; or '.join(advice)}"


def advice_for(reasons: Mapping[str, int]) -> list[str]:
    """What helps against the ``reasons``, the most frequent first; each once."""
    found = [
        ADVICE[begin]
        for reason in sorted(reasons, key=lambda r: -reasons[r])
        for begin in ADVICE
        if reason.startswith(begin)
    ]
    return list(dict.fromkeys(found))
