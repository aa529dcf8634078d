"""Models that write text, loaded: one way for training, engines and probes.

A vision-language model is loaded whole, so that it is saved whole; only its text model is
trained and asked.
"""

from typing import Any

from delia_ray.errors import UserError
from delia_ray.generation_settings import read, savable


def load_causal(path: str, **options: Any) -> Any:
    """The model in folder ``path``; ``options`` are those of ``from_pretrained``.

    Its generation settings are those of the file that can be saved again (see
    ``generation_settings.savable``).

    Raises:
        UserError: transformers knows no model of this kind that writes text.
    """
    settings, _ = savable(read(path))
    return model_class(config_of(path)).from_pretrained(path, generation_config=settings, **options)


def decoder_of(model: Any) -> Any:
    """The text model inside ``model``, which gives the states that its head reads."""
    found = model.get_decoder()
    if found is not model:
        return found
    # Some families name themselves (Llama 4, transformers 5.19).
    names = (model.base_model_prefix, "model")
    return next((getattr(model, n) for n in names if getattr(model, n, model) is not model), model)


def config_of(path: str) -> Any:
    """The configuration in model folder ``path``.

    Raises:
        UserError: transformers cannot read it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path)
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as problem:
        said = str(problem).strip().splitlines()[0]
        raise UserError(
            f"model={path}: transformers cannot read its config.json ({said}); choose a model of a "
            "family that the installed transformers knows"
        ) from None


def model_class(config: Any) -> Any:
    """The class of transformers for a model with ``config``.

    What the model was published as counts: a vision-language model keeps its vision tower where
    transformers could load its text model alone.

    Raises:
        UserError: there is none that writes text.
    """
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TEXT,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as VISION,
    )

    kind = config.model_type
    published = list(config.architectures or [])
    if kind in VISION and (kind not in TEXT or VISION[kind] in published):
        return transformers.AutoModelForImageTextToText
    if kind in TEXT:
        return transformers.AutoModelForCausalLM
    raise UserError(
        f"a model of the family {kind} ({', '.join(published) or 'no architecture named'}) is not "
        "one that writes text after a text; choose a causal or a vision-language chat model"
    )
