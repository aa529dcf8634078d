"""Which parameters trials get: sampling, grids and conditions, as pure arithmetic."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from delia_ray.config.sweep import Dimension
from delia_ray.records import digest, uniform

Dimensions = Mapping[str, Dimension]
Parameters = dict[str, Any]
"""Dotted setting -> value; a dimension whose condition does not hold is not in it."""

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
"""Of the first dimensions; of more, a Halton sequence spreads badly, and they are drawn at
random."""
_TRIES = 200
"""Draws without anything new after which the space counts as exhausted."""


def draw(dimensions: Dimensions, count: int, seed: int) -> list[Parameters]:
    """The first ``count`` different points of a sequence that spreads evenly.

    A Halton sequence (Halton 1960), shifted at random in each dimension (Cranley and Patterson
    1976), so a longer sequence begins with a shorter one. Fewer come where the space has fewer.
    """
    found: dict[str, Parameters] = {}
    unseen = 0
    for index in itertools.count():
        if len(found) == count or unseen == _TRIES:
            return list(found.values())
        point = {
            name: value(dimension, _position(index, at, name, seed))
            for at, (name, dimension) in enumerate(dimensions.items())
        }
        own = active(dimensions, point)
        unseen = unseen + 1 if digest(own) in found else 0
        found.setdefault(digest(own), own)
    raise AssertionError("count() does not end")


def grid(dimensions: Dimensions) -> list[Parameters]:
    """Every combination of choices, each once, the last dimension the fastest."""
    found: dict[str, Parameters] = {}
    for values in itertools.product(*(d.ends for d in dimensions.values())):
        own = active(dimensions, dict(zip(dimensions, values, strict=True)))
        found.setdefault(digest(own), own)
    return list(found.values())


def value(dimension: Dimension, at: float) -> Any:
    """The value at ``at`` in [0, 1) of the way through a dimension."""
    ends, kind = dimension.ends, dimension.kind
    if kind == "choice":
        return ends[int(at * len(ends))]
    low, high = ends
    if kind == "integer":
        return low + int(at * (high - low + 1))
    if kind == "uniform":
        return _short(low + at * (high - low), low, high)
    if kind == "log":
        return _short(low * (high / low) ** at, low, high)
    # From half below the first to half above the last, so that both ends have their share.
    first, last = math.log(low - 0.5), math.log(high + 0.5)
    return min(high, max(low, round(math.exp(first + at * (last - first)))))


def _short(number: float, low: float, high: float) -> float:
    """To four digits, so that people can copy it."""
    return min(high, max(low, float(f"{number:.4g}")))


def active(dimensions: Dimensions, point: Mapping[str, Any]) -> Parameters:
    """``point`` without the dimensions whose condition does not hold.

    A condition on a dimension that is itself left out does not hold.
    """
    kept = dict(point)
    while True:
        out = [n for n in kept if not all(holds(kept, o, w) for o, w in dimensions[n].when.items())]
        if not out:
            return kept
        for name in out:
            del kept[name]


def holds(point: Mapping[str, Any], name: str, wanted: Any) -> bool:
    """Whether dimension ``name`` of ``point`` has a value that is ``wanted``, see
    ``Dimension.when``."""
    if name not in point:
        return False
    got = point[name]
    if isinstance(wanted, Mapping) and wanted and set(wanted) <= {"above", "below"}:
        return bool(wanted.get("above", -math.inf) < got < wanted.get("below", math.inf))
    return got in wanted if isinstance(wanted, list) else bool(got == wanted)


def corners(dimensions: Dimensions, names: Iterable[str]) -> Iterator[Parameters]:
    """Every combination of the values (or ends) of some dimensions, whatever their conditions."""
    own = [n for n in dimensions if n in set(names)]
    for values in itertools.product(*(dimensions[n].ends for n in own)):
        yield dict(zip(own, values, strict=True))


def suggest(dimensions: Dimensions, trial: Any) -> None:
    """Define the space for Optuna by asking ``trial`` for each dimension that counts."""
    point: Parameters = {}
    for name, dimension in in_order(dimensions):
        if not all(holds(point, o, w) for o, w in dimension.when.items()):
            continue
        if dimension.kind == "choice":
            # Optuna takes plain values only, so it chooses among positions.
            at = trial.suggest_categorical(name, list(range(len(dimension.ends))))
            point[name] = dimension.ends[at]
            continue
        low, high = dimension.ends
        log = dimension.kind.startswith("log")
        ask = trial.suggest_int if "integer" in dimension.kind else trial.suggest_float
        point[name] = ask(name, low, high, log=log)


def suggested(dimensions: Dimensions, found: Mapping[str, Any]) -> Parameters:
    """What ``suggest`` asked for, with the values of choices in place of their positions."""
    point = {
        name: dimensions[name].ends[v] if dimensions[name].kind == "choice" else v
        for name, v in found.items()
        if name in dimensions
    }
    return active(dimensions, {n: point[n] for n in dimensions if n in point})


def as_suggested(dimensions: Dimensions, point: Mapping[str, Any]) -> dict[str, Any]:
    """The other way round."""
    return {
        name: dimensions[name].ends.index(v) if dimensions[name].kind == "choice" else v
        for name, v in point.items()
    }


def in_order(dimensions: Dimensions) -> list[tuple[str, Dimension]]:
    """Each dimension after those that its condition names.

    Raises:
        ValueError: conditions go in a circle.
    """
    done: dict[str, Dimension] = {}
    while len(done) < len(dimensions):
        ready = {
            n: d for n, d in dimensions.items() if n not in done and all(o in done for o in d.when)
        }
        if not ready:
            left = [n for n in dimensions if n not in done]
            raise ValueError(f"the conditions of {left} go in a circle")
        done |= ready
    return list(done.items())


def _position(index: int, at: int, name: str, seed: int) -> float:
    if at >= len(_PRIMES):
        return uniform(seed, name, index)
    return (radical_inverse(index, _PRIMES[at]) + uniform(seed, name)) % 1.0


def radical_inverse(index: int, base: int) -> float:
    """The digits of ``index`` in ``base``, mirrored at the point: 6 = 110 (base 2) -> 0.011."""
    result, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result += digit * weight
        weight /= base
    return result
