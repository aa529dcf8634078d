"""The sources of a config: what each is for, its files, and what identifies their content."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from delia_ray import miniature
from delia_ray.config import RunConfig, Source
from delia_ray.errors import UserError
from delia_ray.ingest.files import Found, InputFile, digest_file, find, pair
from delia_ray.ingest.layouts import Options
from delia_ray.ingest.parse import Job
from delia_ray.ingest.readers import candidates
from delia_ray.records import digest
from delia_ray.redaction import identity

_READING = {
    "container", "encoding", "header", "quoting", "split", "subset", "parallel", "turns",
    "control_tokens", "unreadable", "damaged", "limits", "template", "without",
}  # fmt: skip
"""Settings that enter the fingerprint only where they are set."""

Group = Literal["downstream", "corpus", "suites"]


@dataclass(frozen=True)
class Feed:
    """One source of the config in its role."""

    group: Group
    setting: str
    """Where the config names it: downstream, corpus[0], evaluate.suites[name]."""
    label: str
    """Its key in the counts: the path, for suites the name."""
    source: Source

    @cached_property
    def files(self) -> list[InputFile]:
        """The same as ``_files``, by names without credentials."""
        return [replace(file, name=identity(file.name)) for file in self._files]

    @cached_property
    def _files(self) -> list[InputFile]:
        """Its files in reading order; a part of the miniature world counts as one.

        Raises:
            UserError: there are none.
        """
        source = self.source
        if source.format == "miniature":
            return [InputFile(name=source.path, url=f"miniature://{source.path}", local=False)]
        if source.parallel.path is None:
            return self._found.files
        others = find(source.parallel.path, f"{self.setting}.parallel.path", source.split)
        return pair(self._found.files, others.files, self.setting)

    @property
    def not_read(self) -> dict[str, str]:
        """Files of its folder that are not read -> why."""
        return {} if self.source.format == "miniature" else self._found.not_read

    @cached_property
    def _found(self) -> Found:
        source = self.source
        return find(source.path, f"{self.setting}.path", source.split, source.subset)

    def check(self) -> None:
        """
        Raises:
            UserError: settings of the source that cannot work, whatever the files hold.
        """
        source, where = self.source, self.setting
        try:
            candidates(source.format, source.columns, Options(template=source.template))
        except LookupError as error:
            raise UserError(f"{where}.columns: {error}") from None
        if source.format == "ifeval" and self.group != "suites":
            raise UserError(
                f"{where}.format=ifeval: its rows have constraints and no answers, so only a suite "
                "can use them; for the prompts alone set prompt_completion"
            )
        if source.format == "miniature" and source.path not in miniature.PARTS:
            raise UserError(
                f"{where}.path={source.path}: no part of the miniature world; it has "
                f"{', '.join(miniature.PARTS)} (for a file, set {where}.format=auto)"
            )
        if source.format == "miniature" and source.rows is None:
            raise UserError(
                f"{where}.rows: say how many; {source.path} of the miniature world has no end"
            )

    def settings(self) -> dict[str, Any]:
        """What its records depend on, as JSON.

        Raises:
            UserError: see ``check`` and ``files``.
        """
        self.check()
        names = {"path", "format", "columns", "rows"}
        if self.group == "corpus":
            names.add("weight")
            if self.source.cap is not None:
                names.add("cap")
        # Not the special tokens or metrics: changing them must not read everything again.
        kept = self.source.model_dump(mode="json", include=names)
        changed = self.source.model_dump(mode="json", include=_READING, exclude_defaults=True)
        kept["path"] = self.source.label
        return {**kept, **changed, "files": {f.name: self._digest(f) for f in self.files}}

    def jobs(
        self,
        seed: int,
        control: Sequence[str] = (),
        reasoning: tuple[str, str] | None = None,
    ) -> list[Job]:
        """One job for each file, in reading order; ``control`` are the model's own tokens, and
        ``reasoning`` is what its template writes around that."""
        source, queries = self.source, self.group == "corpus"
        control = [token for token in control if token not in "".join(reasoning or ())]
        return [
            Job(
                source=source.label,
                file=file.name,
                url=file.url,
                format=source.format,
                columns=source.columns,
                limit=source.rows,
                answers_needed=not queries,
                weight=source.weight if queries else None,
                seed=seed,
                container=source.container,
                encoding=source.encoding,
                header=source.header,
                quoting=source.quoting,
                split=source.split,
                limits=source.limits,
                options=Options(source.turns, source.parallel, source.template, reasoning),
                without=tuple(source.without),
                aligned=file.aligned.url if file.aligned else None,
                control=tuple(control) if self.checks_control else (),
                strip_control=source.control_tokens == "strip",
            )
            for file in self.files
        ]

    @property
    def checks_control(self) -> bool:
        """Whether texts are searched for the model's own tokens; the miniature world has none."""
        return self.source.control_tokens != "keep" and self.source.format != "miniature"

    @property
    def keeps_reasoning(self) -> bool:
        """Whether reasoning that stands apart is written as the model's template writes it."""
        return self.source.turns.reasoning == "keep" and self.source.format != "miniature"

    def _digest(self, file: InputFile) -> str:
        source = self.source
        if source.format != "miniature":
            own = digest_file(file, f"{self.setting}.path")
            other = file.aligned
            return own if other is None else f"{own} {digest_file(other, self.setting)}"
        # A change of the world shows in its first rows, and all of them may be millions.
        return digest(list(miniature.rows(source.path, min(source.rows or 0, 500), seed=0)))


def feeds(config: RunConfig) -> list[Feed]:
    """Every source of ``config`` in reading order."""
    return list(_feeds(config))


def _feeds(config: RunConfig) -> Iterator[Feed]:
    yield Feed("downstream", "downstream", config.downstream.label, config.downstream)
    several: list[tuple[Group, str, Sequence[Source]]] = [
        ("downstream", "downstream.also", config.downstream.also),
        ("corpus", "corpus", config.corpus),
    ]
    for group, name, sources in several:
        labels = {config.downstream.label} if group == "downstream" else set()
        for index, source in enumerate(sources):
            setting = f"{name}[{index}]"
            label = f"{source.label} ({setting})" if source.label in labels else source.label
            labels.add(label)
            yield Feed(group, setting, label, source)
    for suite in config.evaluate.suites:
        yield Feed("suites", f"evaluate.suites[{suite.name}]", suite.name, suite)
