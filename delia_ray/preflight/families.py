"""Whether a model of this family can be trained as the recipe says: layers, packs, saving."""

from collections.abc import Iterator

from delia_ray.generation_settings import FILE, read, savable
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject


def generation_settings(subject: Subject) -> Iterator[Problem]:
    """What of ``generation_config.json`` cannot be saved with a trained model."""
    if not subject.trains:
        return
    _, left_out = savable(read(subject.path))
    for reason in left_out.values():
        yield Problem(f"{FILE}: left out of the trained models: {reason}", fatal=False)


def one_step(subject: Subject) -> Iterator[Problem]:
    """A step of a small copy: how rows are computed, which layers get an adapter, what fails.

    Raises:
        UserError: it cannot be trained, or not saved.
    """
    if not subject.trains:
        return
    from delia_ray.finetune.layout import find_layout
    from delia_ray.finetune.lora_layers import AUTO, USUAL, ends_of
    from delia_ray.finetune.trial import try_step

    own = subject.config.finetune
    layout = find_layout(subject.path, own.attention)
    if layout.why:
        yield Problem(f"{layout.why}, so each is computed apart", fatal=False)
    tokens = subject.config.downstream.special_tokens
    layers = ends_of(try_step(subject.path, own, tokens, layout))
    if layers and own.lora.target_modules == AUTO and layers != USUAL:
        named = ", ".join(layers)
        yield Problem(f"layers that get an adapter: {named}", fatal=False)
