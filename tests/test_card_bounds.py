"""What comes from outside cannot speak for the card: no HTML, links or front matter of its own."""

import copy
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from delia_ray.config import RunConfig
from delia_ray.export.card import Base, Story, render
from delia_ray.export.markdown import block, code, code_cell, row, text
from tests.report.conftest import scores

HOSTILE = (
    "<script>alert(1)</script>",
    "a\n\n<img src=x onerror=alert(1)>\n\nb",
    "x` | <b onclick=alert(1)>y</b> | `z",
    "\\| <b>x</b>",
    "\\\\`<i>q</i>``",
    "[here](javascript:alert(1)) <javascript:alert(1)> ![x](data:text/html,x)",
    "[a]: javascript:alert(1)\n[a]",
    "```\n````\n<script>alert(1)</script>\n````",
    "\n---\nlicense: evil\n---\n# evil",
    "a\r<iframe>\u2028<p>\u0085<div>",
    "&lt;script&gt; &#60;b> *bold* _slanted_ ~~gone~~",
    "# evil",
    "~~~\n<script>\n~~~",
    "`",
)
MARKS = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _open(card: str) -> list[Any]:
    """All tokens of a page, those of its lines too."""
    found = []
    for token in MARKS.parse(card):
        found += [token, *(token.children or [])]
    return found


def _shown(card: str) -> str:
    return "\n".join(t.content for t in _open(card) if t.type in ("text", "code_inline", "fence"))


def _links(card: str) -> set[str]:
    return {str(t.attrs.get("href") or t.attrs.get("src")) for t in _open(card) if t.attrs}


@pytest.mark.parametrize("evil", HOSTILE)
def test_text_starts_nothing(evil: str) -> None:
    line = " ".join(evil.split())
    for page in (f"before {text(evil)} after", f"{text(evil)}", f"- {text(evil)}"):
        kinds = {t.type for t in _open(page)} - {"list_item_open", "list_item_close"}
        assert kinds <= {
            "paragraph_open", "paragraph_close", "inline", "text", "text_special",
            "bullet_list_open", "bullet_list_close",
        }, page  # fmt: skip
        said = "".join(t.content for t in _open(page) if t.type in ("text", "text_special"))
        assert line in " ".join(said.split()), "it is shown as it is"


@pytest.mark.parametrize("evil", HOSTILE)
def test_code_is_one_piece(evil: str) -> None:
    inner = [t for t in _open(f"see {code(evil)} there") if t.type != "text"]
    assert [t.type for t in inner] == [
        "paragraph_open", "inline", "code_inline", "paragraph_close",
    ]  # fmt: skip
    assert inner[2].content == " ".join(evil.split())
    fence = MARKS.parse(f"before\n\n{block(evil)}\n\nafter")
    assert [t.type for t in fence][3:4] == ["fence"]
    assert len(fence) == 7


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_cell_stays_one_cell(evil: str) -> None:
    page = f"| a | b |\n|---|---|\n| {code_cell(evil)} | {row([evil])} |\n"
    tokens = _open(page)
    assert sum(t.type == "td_open" for t in tokens) == 2
    raw = [t.content for t in tokens if t.type.startswith("html_")]
    assert [r for r in raw if r not in ("<code>", "</code>")] == []
    # Readers that take two backslashes for one sign must not see the end of a cell either.
    assert "\\\\|" not in page.replace("\\\\\\|", "")


def _story(evil: str, **changes: Any) -> tuple[Story, Base]:
    """A run in which everything that may come from outside is ``evil``."""
    config = RunConfig.model_validate(
        {
            "name": "tiny", "model": evil,
            "downstream": {"path": evil, "format": "auto", "special_tokens": {}},
            "corpus": [{"path": f"hf://datasets/owner/name/{evil}"}],
            "synthesize": {"reword": {"prompt": f"{{request}}{{register}} {evil}"}},
            "evaluate": {"suites": [{"name": "words", "path": evil}], "summary": ["words"]},
        }
    )  # fmt: skip
    source = {
        "read": 3, "records": 1, "rejects": {evil: 2}, "duplicates": 0, "beyond_limit": 0,
    }  # fmt: skip
    mixed = {
        "arms": {
            "delia": {
                "ratio_asked": 1, "ratio_realised": 1.0, "steps": 2,
                **{
                    k: {"downstream": 1, "diverse": 1}
                    for k in ("rows", "tokens", "supervised_tokens", "unique_rows")
                },
            }
        },
        "untrained": {evil: 1},
    }  # fmt: skip
    counts = {
        "ingest": {"downstream": {evil: source}, "corpus": {evil: source}},
        "synthesize": {
            "self_sample": {"kept": 1, "set_aside": {evil: 2}}, "engine": evil,
            "reword": {"asked": 2, "kept": 1, "set_aside": {evil: 1}},
            "queries_set_aside": {evil: 1},
        },
        "mix": mixed,
        "finetune": {"arms": {"delia": {"steps": 2, "loss": 0.5}}, "workers": 1, "zero": 2},
        "evaluate": {"suites": {evil: 8}},
    }  # fmt: skip
    chosen = config.model_dump(mode="json")
    settings = {
        "synthesize": {
            "synthesize": chosen["synthesize"] | {"model": evil} | changes.get("synthesize", {}),
            "adapters": [],
        },
        "mix": {"mix": chosen["mix"], "arms": {"delia": {"ratio": 1.0, "reworded": True}}},
        "finetune": {
            "finetune": chosen["finetune"]
            | {"adapter": evil, "quantize": evil, "precision": evil}
            | changes.get("finetune", {}),
            "special_tokens": {evil: evil}, "seed": 0,
        },
    }  # fmt: skip
    found = copy.deepcopy(scores())
    found["suites"][evil] = {
        arm: {evil: next(iter(own.values()))} for arm, own in found["suites"]["words"].items()
    }
    found["main"][evil] = evil
    found["signatures"] = {evil: evil}
    found["mean_of"] = [evil]
    manifests = {
        stage: {
            "counts": c, "settings": settings.get(stage, {}), "versions": {evil: evil},
        }
        for stage, c in counts.items()
    }  # fmt: skip
    adapter = {
        "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": [evil], "use_dora": False,
    }  # fmt: skip
    return Story(config, "delia", manifests, found), Base(evil, evil, 320, adapter)


HARMLESS = "a/b"
KINDS = (
    "heading_open", "td_open", "tr_open", "table_open", "fence", "hr", "list_item_open",
    "code_block", "paragraph_open", "strong_open", "em_open", "s_open",
)  # fmt: skip


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_hostile_run_changes_no_more_than_the_words_of_its_card(evil: str) -> None:
    shape = render(*_story(HARMLESS), merged=True, repo="me/tiny")
    card = render(*_story(evil), merged=True, repo="me/tiny")
    head, body = card.split("\n---\n", 1)
    assert ModelCard(card).content.split("\n---\n", 1)[1] == body, "the hub reads the same head"
    meta = yaml.safe_load(head.removeprefix("---\n"))
    assert set(meta) == {"base_model", "library_name", "pipeline_tag", "tags", "datasets"}
    assert (meta["base_model"], meta["datasets"]) == (evil, ["owner/name"])

    raw = [t.content for t in _open(body) if t.type.startswith("html_")]
    assert [r for r in raw if r not in ("<code>", "</code>")] == []
    plain = shape.split("\n---\n", 1)[1]
    assert _links(body) == _links(plain) == {"https://arxiv.org/abs/2408.10841"}
    for kind in KINDS:
        ours, theirs = (sum(t.type == kind for t in _open(p)) for p in (plain, body))
        assert ours == theirs, kind


def test_the_card_still_says_the_words() -> None:
    shown = _shown(render(*_story("<b>bold</b>"), merged=False, repo=""))
    assert "2 <b>bold</b>" in "".join(shown.splitlines())
    assert "<b>bold</b>" in shown.splitlines()
