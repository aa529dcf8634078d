"""What synthesis will cost, foreseen from a short probe; ``delia synthesize --plan``."""

from typing import Any

from delia_ray.pace import span
from delia_ray.stage import StageRun
from delia_ray.synthesize.generate import only
from delia_ray.synthesize.stage import PLAN, Synthesis, settings

PROBE = 256
"""Requests that are generated to see how fast it goes: about what one engine holds at once."""


def foresee(stage: StageRun, probe: int = PROBE) -> dict[str, Any]:
    """Rows, tokens, time and GPU hours of the generation that is still to be done.

    Generates up to ``probe`` of the missing requests, evenly spread; they are kept and need
    not be made again. Written to ``synthesis-plan.json`` in the run's folder, where the
    stage finds it and reports planned against actual.

    Raises:
        UserError: the pool has too few queries for the ratio.
        DeliaError: the engines fail.
    """
    work = Synthesis(stage)
    requests = work.probed(probe) if work.pool is None else work.everything(work.queries(None))
    keys = dict.fromkeys(r.key for r in requests())
    cached = set(work.cache.read(keys)["key"].to_pylist())
    missing = [k for k in keys if k not in cached]
    chosen = dict.fromkeys(missing[:: max(1, -(-len(missing) // probe))]) if probe else {}
    with work.generator() as generator:
        if chosen:
            generator.complete(lambda: only(requests(), chosen))
    live = work.live
    # Where queries are invented, nothing is known of them: as many again are asked as answers.
    total = len(keys) if work.pool is not None else 2 * work.asked + len(keys) - probe
    left = max(0, total - len(cached) - live.rows)
    each = 1 / live.rows if live.rows else 0.0
    seconds = live.remaining(left) or 0.0
    foreseen = {
        "rows": left,
        "prompt tokens": round(left * live.prompt_tokens * each),
        "generated tokens": round(left * live.tokens * each),
        "time": span(seconds),
        "GPU hours": round(live.gpu_hours(seconds), 3),
    }
    plan = {
        "needed": work.needed,
        "requests": total,
        "cached": total - left,
        "probe": {
            "rows": live.rows,
            "seconds": round(live.seconds, 2),
            "prompts_per_second": round(live.row_rate, 1),
            "tokens_per_second": round(live.rate, 1),
        },
        "foreseen": foreseen,
        "config": settings(stage.config),
    }
    stage.run.write_json(PLAN, plan)
    return plan


def lines(plan: dict[str, Any]) -> list[str]:
    """The plan for people."""
    foreseen, probe = plan["foreseen"], plan["probe"]
    told = [
        f"{plan['needed']:,} diverse answers needed; {plan['requests']:,} requests in all, "
        f"{plan['cached']:,} of them made already, {foreseen['rows']:,} to generate",
    ]
    if not probe["rows"]:
        return [*told, "nothing had to be probed"]
    told += [
        f"probe: {probe['rows']:,} requests in {probe['seconds']:g} s, "
        f"{probe['prompts_per_second']:,.0f} prompts/s, {probe['tokens_per_second']:,.0f} tok/s",
        f"foreseen: {foreseen['prompt tokens']:,} prompt tokens, "
        f"{foreseen['generated tokens']:,} generated tokens, {foreseen['time']} of generating "
        "and once the start of the engines",
    ]
    if foreseen["GPU hours"]:
        told.append(f"foreseen: {foreseen['GPU hours']:,.2f} GPU hours")
    return told
