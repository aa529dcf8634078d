"""COMET (Rei et al. 2020, arXiv 2009.09025) through unbabel-comet, version 2 or later."""

from collections.abc import Sequence
from typing import ClassVar

from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.learned import LearnedMetric
from delia_ray.evaluate.metrics.patterns import Pattern

_BATCH = 16


class Comet(LearnedMetric):
    """The mean segment score of a COMET model, which sees source, output and reference.

    The source is the row's last user turn, or what the one group of ``pattern`` finds there:
    an instruction such as "Translate into English:" is no part of the text.

    Written after the library's documentation. Neither the package nor a checkpoint is part
    of this project, so no test runs the model.
    """

    package: ClassVar[str] = "comet"
    install: ClassVar[str] = "pip install 'unbabel-comet>=2'"
    is_folder: ClassVar[bool] = False

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        super().check(references, sources)
        self.texts(sources or [])

    def score_all(
        self, outputs: Sequence[str], references: Sequence[str], sources: Sequence[str] | None
    ) -> list[float]:
        if sources is None:
            raise ValueError("COMET needs the prompts of the rows")
        import torch
        from comet import load_from_checkpoint

        rows = [
            {"src": source, "mt": output, "ref": reference}
            for source, output, reference in zip(
                self.texts(sources), outputs, references, strict=True
            )
        ]
        gpus = int(torch.cuda.is_available())
        model = load_from_checkpoint(self.checkpoint)
        return [float(x) for x in model.predict(rows, batch_size=_BATCH, gpus=gpus).scores]

    def texts(self, sources: Sequence[str]) -> list[str]:
        """The source text of each prompt.

        Raises:
            UserError: ``pattern`` finds none in one of them.
        """
        if self.settings.pattern is None:
            return list(sources)
        pattern = Pattern(self.settings, flags="s")
        found = [pattern.search(source) for source in sources]
        for number, (match, source) in enumerate(zip(found, sources, strict=True), 1):
            if match is None or match.group(1) is None:
                raise UserError(
                    f"comet: pattern={self.settings.pattern!r} finds no source text in row "
                    f"{number}: {source[:80]!r}"
                )
        return [match.group(1).strip() for match in found if match is not None]
