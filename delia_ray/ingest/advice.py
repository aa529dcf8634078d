"""For a row of no known layout, the settings that would read it."""

import difflib

from delia_ray.ingest.columns import Row, has_words
from delia_ray.ingest.layouts import ANSWERS, QUERIES

_NEAR = 0.75
"""Similarity from which a name is taken for a misspelt one."""


def nearest(row: Row) -> str:
    """The ``columns`` (and, for a text with what was made of it, the ``template``) that would
    read ``row``; "" where it holds no text for a query."""
    texts = [
        str(name)
        for name, value in row.values.items()
        if str(name).strip() and isinstance(value, str) and value.strip() and has_words(value)
    ]
    named: dict[str, str] = {}
    for wanted, known in (("prompt", (*QUERIES, "instruction")), ("completion", ANSWERS)):
        for name in texts:
            if difflib.get_close_matches(name.strip().lower(), known, 1, _NEAR):
                named.setdefault(wanted, name)
    rest = [name for name in texts if name not in named.values()]
    if "prompt" not in named and rest:
        named["prompt"] = rest.pop(0)
    if "prompt" not in named:
        return ""
    if "completion" not in named and rest:
        named["completion"] = rest[-1]
    mapped = ", ".join(f"{wanted}: {named[wanted]}" for wanted in sorted(named, reverse=True))
    said = f"nearest is prompt_completion, with columns: {{{mapped}}}"
    if "completion" in named:
        said += (
            f", or with an instruction, template: 'What to do with it.\\n\\n{{{named['prompt']}}}' "
            f"and columns: {{completion: {named['completion']}}}"
        )
    return said
