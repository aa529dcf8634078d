"""The command ``delia``. Exit codes: 0 done, 1 failed while running, 2 to be mended by the
user (said in one paragraph), 130 interrupted by Ctrl-C, 143 terminated (the same command
resumes)."""

import argparse
import contextlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from delia_ray import __doc__ as story
from delia_ray import __version__, stopping
from delia_ray.artifacts import Folder, open_storage
from delia_ray.cluster_verbs import add_verbs
from delia_ray.config import (
    RunConfig,
    Source,
    checked,
    compose,
    describe,
    load_config,
    load_settings,
    parted,
)
from delia_ray.console import Screen, chatter_to, clean, clock
from delia_ray.errors import DeliaError, UserError
from delia_ray.miniature import RECIPE
from delia_ray.reasons import reason, storage_error, user_error
from delia_ray.redaction import redact_message
from delia_ray.runtime import address, surroundings

STAGE_VERBS = {
    "run": ("report", "all five stages and the report; what is done is skipped"),
    "ingest": ("ingest", "read downstream rows, corpora and suites into records"),
    "synthesize": ("synthesize", "self-sample the answers and reword the instructions"),
    "mix": ("mix", "tokenise and lay down the exact order"),
    "finetune": ("finetune", "train every arm"),
    "evaluate": ("evaluate", "answer and score every suite"),
}
"""Verb -> (the last stage it runs, help)."""
IN_THE_MAIN_THREAD = {"chat", "show", "submit", "k8s", "drill"}
"""They read a terminal, or have nothing to interrupt; ``drill`` starts Ray's test cluster, which
wants to set handlers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    if arguments is None:
        surroundings.speak_utf8()
    parsed = _parser().parse_args(arguments)
    run = stopping.run_here if parsed.verb in IN_THE_MAIN_THREAD else stopping.run
    try:
        surroundings.settle()
        code: int | None = run(lambda: parsed.act(parsed))
    except DeliaError as error:
        print(f"error: {redact_message(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(stopping.message(), file=sys.stderr)
        return stopping.exit_code()
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="delia", description=story, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"delia-ray {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, text: str, act: Any) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        made.set_defaults(act=act, verb=name)
        return made

    def recipe(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "settings", nargs="*", metavar="RECIPE.yaml | key=value",
            help="recipes compose left to right, then the overrides; none: the miniature",
        )  # fmt: skip

    for name, (_, text) in STAGE_VERBS.items():
        recipe(made := verb(name, text, _run))
        if name == "ingest":
            made.add_argument(
                "--look", metavar="FILE",
                help="only show what a file, folder or URL would be read as; key=value are then "
                "settings of one source, such as format=parallel",
            )  # fmt: skip
        if name == "synthesize":
            made.add_argument(
                "--plan", action="store_true",
                help="only foresee rows, tokens and hours, from a short probe",
            )  # fmt: skip
            made.add_argument(
                "--probe", type=int, default=256, metavar="N",
                help="requests that the plan generates (they are kept); 256 by default",
            )  # fmt: skip
    study = verb("study", "measure the paper's claims: ratios, seeds, baselines, verdicts", _study)
    study.add_argument("which", choices=["claims"], help="claims: those of the DELIA paper")
    study.add_argument(
        "settings", nargs="*", metavar="STUDY.yaml | key=value",
        help="another design, and overrides such as seeds=8; none: the miniature's",
    )  # fmt: skip
    study.add_argument(
        "--out", metavar="FOLDER_OR_URL", help="put claims.html and claims.md there too"
    )
    sweep = verb("sweep", "many trainings on one synthesis, to find a mix and its settings", _sweep)
    sweep.add_argument(
        "settings", nargs="*", metavar="SWEEP.yaml | RECIPE.yaml | key=value",
        help="a sweep; or, with --over, recipes and their overrides; with --resume, its folder",
    )  # fmt: skip
    sweep.add_argument(
        "--over", action="append", default=[], metavar="KEY=VALUES",
        help="a dimension: mix.ratio=0,32,67 or finetune.lr=log:1e-5:1e-3 (also uniform, integer, "
        "log_integer)",
    )  # fmt: skip
    sweep.add_argument("--trials", type=int, metavar="N", help="how many")
    sweep.add_argument(
        "--resume", action="store_true", help="go on with a sweep that was broken off"
    )
    recipe(verb("show", "print every setting, its value and what it means", _show))
    report = verb("report", "write the report of a run again", _report)
    report.add_argument("run", metavar="RUN", help="a run's folder or URL")
    chat = verb("chat", "talk to the models of a run, or to an exported one", _chat)
    chat.add_argument(
        "run", metavar="FOLDER", help="folder or URL of a run, an export or a plain model"
    )
    chat.add_argument("--arm", help="base, or an arm of the run; delia by default")
    chat.add_argument("--max-tokens", type=int, default=256, help="longest answer")
    export = verb("export", "adapter, plain model and model card of a run, to take away", _export)
    export.add_argument("run", metavar="RUN", help="a run's folder or URL")
    export.add_argument("--arm", default="delia", help="an arm of the run; delia by default")
    export.add_argument(
        "--to", metavar="FOLDER_OR_URL", help="what to fill; RUN/exports/ARM by default"
    )
    export.add_argument("--merge", action="store_true", help="also the merged, plain model")
    export.add_argument(
        "--push", default="", metavar="HUB_REPO", help="also upload it to the Hugging Face hub"
    )
    export.add_argument("--private", action="store_true", help="the repository must be private")
    add_verbs(verb, recipe, _load, list(STAGE_VERBS))
    return parser


def _load(settings: Sequence[str]) -> RunConfig:
    files, overrides = parted(settings)
    return load_config(files or [RECIPE], overrides)


# --- verbs ----------------------------------------------------------------------------


def _run(parsed: argparse.Namespace) -> None:
    if getattr(parsed, "look", None):
        _look(parsed.look, parsed.settings)
        return
    config = _load(parsed.settings)
    if getattr(parsed, "plan", False):
        _plan(config, parsed.probe)
    else:
        _execute(config, STAGE_VERBS[parsed.verb][0])


def _look(path: str, overrides: Sequence[str]) -> None:
    from delia_ray.ingest.look import look

    if "path" in (key.partition("=")[0] for key in overrides):
        raise UserError(f"--look {path}: leave path= out, as --look names the file")
    for line in look(checked(Source, {**compose([], overrides), "path": path})):
        print(line, flush=True)


def _report(parsed: argparse.Namespace) -> None:
    from delia_ray import pipeline

    run = open_storage(parsed.run)
    pipeline.report_again(run)
    print(f"{run}/report.html")


def _execute(config: RunConfig, until: str) -> None:
    run = open_storage(config.storage) / config.name
    with _logged(run, config) as screen:
        # Imported behind the redirection: Ray and vLLM speak while they load.
        from delia_ray import pipeline, runtime

        watcher = _Watcher(screen, run)
        try:
            plan = pipeline.run(config, watcher, until)
        finally:
            runtime.disconnect()
        if until in ("evaluate", "report"):
            _print_scores(screen, plan.folder("evaluate").read_json("scores.json"))
        if until == "report":
            screen.line(f"\n report  {run}/report.html      try it  delia chat {run}")


def _plan(config: RunConfig, probe: int) -> None:
    run = open_storage(config.storage) / config.name
    with _logged(run, config) as screen:
        from delia_ray import pipeline, runtime
        from delia_ray.synthesize.plan import lines

        try:
            plan = pipeline.plan_synthesis(config, _Watcher(screen, run), probe)
        finally:
            runtime.disconnect()
        for line in lines(plan):
            screen.line(f"   {line}")
        screen.line(f"   kept in {run}/synthesis-plan.json; `delia synthesize` goes on from here")


def _study(parsed: argparse.Namespace) -> None:
    from delia_ray.study.design import RECIPE, Study

    files, overrides = parted(parsed.settings)
    study = load_settings(Study, files or [RECIPE], overrides)
    run = open_storage(study.storage) / study.name
    out = [run, *([open_storage(parsed.out)] if parsed.out else [])]
    with _logged(run) as screen:
        from delia_ray import runtime
        from delia_ray.study.page import headline
        from delia_ray.study.run import study_claims

        try:
            found = study_claims(study, out, lambda title: _Watcher(screen, run, title))
        finally:
            runtime.disconnect()
        for claim in found["claims"]:
            screen.line(f"  {claim['verdict']:<15}{claim['claim']}  {claim['ours']}")
        screen.line(f"\n {headline(found)}\n report  {out[-1]}/claims.html")


def _sweep(parsed: argparse.Namespace) -> None:
    from delia_ray.sweep.reading import read_sweep

    files, overrides = parted(parsed.settings)
    settings = read_sweep(files, overrides, parsed.over, parsed.trials, parsed.resume)
    run = open_storage(settings.storage) / settings.name
    with _logged(run) as screen:
        from delia_ray import runtime
        from delia_ray.sweep.page import headline, lines
        from delia_ray.sweep.run import BEST, PAGE, Told, sweep

        told = Told(
            lambda title: _Watcher(screen, run, title), lambda t: screen.stage(f" {t}"), screen.line
        )
        try:
            found = sweep(settings, told)
        finally:
            runtime.disconnect()
        for line in lines(found):
            screen.line(f"  {line}")
        screen.line(f"\n {headline(found)}\n report  {run}/{PAGE}      winner  {run}/{BEST}")


def _show(parsed: argparse.Namespace) -> None:
    config = _load(parsed.settings)
    for key, value, text in describe(config):
        print(f"{key} = {_short(value)}")
        if text:
            print("    " + " ".join(text.split()))


def _chat(parsed: argparse.Namespace) -> None:
    from delia_ray import pipeline
    from delia_ray.chat import chat, model_of
    from delia_ray.export.layout import model_in

    folder = open_storage(parsed.run)
    if (model := model_in(folder)) is not None:
        if parsed.arm:
            raise UserError(f"--arm {parsed.arm}: {folder} is one model; leave --arm out")
        chat(model, parsed.run, parsed.max_tokens)
        return
    config, folders = pipeline.finished(folder)
    arm = parsed.arm or "delia"
    model = model_of(config, folders.get("finetune"), arm)
    chat(model, f"{arm} of {config.name}", parsed.max_tokens)


def _export(parsed: argparse.Namespace) -> None:
    from delia_ray.export.bundle import export

    run, to = open_storage(parsed.run), parsed.to and open_storage(parsed.to)
    done = export(run, parsed.arm, to or None, parsed.merge, parsed.push, parsed.private)
    for line in done.lines():
        print(line)


# --- pieces ---------------------------------------------------------------------------


@contextlib.contextmanager
def _logged(run: Folder, config: RunConfig | None = None) -> Iterator[Screen]:
    """Chatter goes to ``log.txt`` in the run's folder, and so does a traceback."""
    if address.of(config or RunConfig()) is None:
        # On a cluster that is joined, workers may be somebody else, who must write there too.
        surroundings.keep_private()
    if run.is_local:
        log = Path(run.file("log.txt"))
    else:
        log = Path(f"delia-{run.url.rstrip('/').rsplit('/', 1)[-1]}.log")
    with _told(run, log), chatter_to(log, run.url.rstrip("/").rsplit("/", 1)[-1]) as screen:
        try:
            yield screen
        except (UserError, KeyboardInterrupt):
            raise
        except Exception:
            print(redact_message(traceback.format_exc()), file=sys.stderr)
            raise
        finally:
            sys.stdout.flush()
            clean(log)
            if not run.is_local and log.exists():
                run.write_bytes("log.txt", log.read_bytes())


@contextlib.contextmanager
def _told(run: Folder, log: Path) -> Iterator[None]:
    """An error as one paragraph."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        known = user_error(error) or storage_error(error, str(run))
        if known is not None:
            raise known from None
        said = str(error) if isinstance(error, DeliaError) else reason(error)
        where = log if run.is_local else f"{run}/log.txt"
        raise DeliaError(
            f"{said}\n       The whole story is in {where}; the same command resumes "
            "after the last finished stage."
        ) from None


class _Watcher:
    """Prints a line for each stage, and a bar while it runs."""

    def __init__(self, screen: Screen, run: Folder, title: str = "") -> None:
        self.screen = screen
        self.stack = contextlib.ExitStack()
        screen.line(f"delia {__version__}  {run}" + (f"  {title}" if title else ""))

    def begin(self, number: int, stage: Any) -> Any:
        return self.stack.enter_context(self.screen.stage(f" {number} {stage.name}"))

    def end(self, number: int, stage: Any, manifest: dict[str, Any], skipped: bool) -> None:
        self.stack.close()
        took = "done before" if skipped else clock(manifest["seconds"])
        self.screen.line(f" {number} {stage.name:<11} {manifest['summary']}  [{took}]")
        for note in [] if skipped else manifest.get("notes", []):
            self.screen.line(f"   {note}")

    def note(self, text: str) -> None:
        self.screen.line(f"   {text}")


def _print_scores(screen: Screen, scores: dict[str, Any]) -> None:
    from delia_ray.evaluate.table import table

    screen.line("")
    # What was kept of an arm on its way stands in the report.
    rows = table(scores, [name for name in scores["arms"] if "@" not in name])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        screen.line("  " + "  ".join(cells).rstrip())


def _short(value: Any) -> str:
    import json

    plain = value
    if isinstance(value, list):
        plain = [v.model_dump(mode="json") if hasattr(v, "model_dump") else v for v in value]
    elif isinstance(value, dict):
        plain = {k: getattr(v, "model_dump", lambda v=v: v)() for k, v in value.items()}
    return json.dumps(plain, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
