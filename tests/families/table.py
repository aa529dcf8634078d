"""The table of families in ``docs/families.md``: ``python -m tests.families.table`` writes it."""

import tempfile
from pathlib import Path

from delia_ray.finetune.lora_layers import ends_of
from tests.families.life import Life, live
from tests.families.models import FAMILIES, MANNERS, make_family

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"
_HEAD = """# Families of models

What comes out for a tiny model of each family, with a chat template in its public manner
(`tests/families`; `python -m tests.families.table` writes this file). For each of them the mask of
supervised tokens is read back, a step in packs equals its rows alone, the end of the turn is
learned, a new token is added of which only the row is trained, the adapter is saved, merged and
loaded again, and adapter and merged model answer alike. No list of families decides how a model is
trained: a check before the first stage looks at a small copy of the one that a recipe names.

| family | manner of its template | rows of a pack | attention | adapted layers | embeddings |
|---|---|---|---|---|---|
"""
_FOOT = """
*Apart*: something in the model carries a state along the row, or its attention heeds no borders,
so each row is computed by itself; steps and batches are the same.
"""


def line(name: str, life: Life) -> str:
    """A family's line of the table."""
    layers = ", ".join(f"`{layer}`" for layer in ends_of(life.layers))
    how = "apart" if life.layout.apart else "together"
    tied = "tied" if life.tied else "untied"
    manner = MANNERS[FAMILIES[name].manner].what
    return f"| {name} | {manner} | {how} | {life.layout.kernel} | {layers} | {tied} |"


def refused_line(name: str) -> str:
    """The line of a family that is refused before anything is trained."""
    return f"| {name} | | refused: {FAMILIES[name].refused} | | | |"


def main() -> None:
    lines = []
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            if family.refused:
                lines.append(refused_line(name))
            else:
                lines.append(line(name, live(name, make_family(name, work / "base"), work)))
        print(lines[-1], flush=True)
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(_HEAD + "\n".join(lines) + "\n" + _FOOT)


if __name__ == "__main__":
    main()
