"""Whether a wording still asks for the same: planted cases of each rule."""

import pytest

from delia_ray.config import Reword, Rules
from delia_ray.config.synthesize import Example
from delia_ray.request_rules import language, same_subject
from delia_ray.rewording import put_back, reword, rewording_problem

TOKENS = {"<fmt>": "two lines of capitals"}
CHECKED = Reword().for_model("some/model")
ORIGINAL = "Check the following invoice for wrong totals. Follow the <fmt> format."


def _problem(text: str, original: str = ORIGINAL) -> str | None:
    return rewording_problem(text, "stop", original, "xxxx", [], TOKENS, [], Rules(), CHECKED)


@pytest.mark.parametrize(
    "text",
    [
        "Look for wrong totals in this invoice, in the <fmt> format.",
        "Please see whether the invoice below has totals that are wrong. Use the <fmt> format.",
        "Using <fmt>, find every wrong total in the invoice.",
        "You have to go through the invoice and report wrong totals as <fmt> asks.",
    ],
)
def test_good_wordings_pass(text: str) -> None:
    assert _problem(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Yes, the invoice has wrong totals. <fmt>", "answers the request"),
        ("There are wrong totals in the invoice, in <fmt> format.", "answers the request"),
        ("I checked the invoice for wrong totals in <fmt>.", "answers the request"),
        ("The answer: the invoice has wrong totals <fmt>.", "answers the request"),
        ("Are the totals of the invoice wrong, in <fmt>?", "asks back"),
        ("The invoice has which wrong totals, <fmt>?", "asks back"),
        ("Please provide the invoice with wrong totals in <fmt>.", "talks to the user"),
        ("Let me know which totals of the invoice are wrong, <fmt>.", "talks to the user"),
        ("Rephrase it: find wrong totals in the invoice, <fmt>.", "talks to the user"),
        ("Find wrong totals.\nInvoice format: <fmt>.", "more than one wording"),
        ("Find wrong totals in the invoice, keep the <fmt> format and then", "breaks off"),
        ("检查以下发票中的错误总额。遵循 <fmt> 格式。", "another language"),
        ("Проверьте счет на ошибки. Следуйте формату <fmt>.", "another language"),
        ("Prüfe die Rechnung auf falsche Summen und nutze das <fmt> Format.", "another language"),
        ("Vérifiez les totaux de la facture et utilisez le format <fmt>.", "another language"),
        ("Please use the <fmt> format.", "lost what is asked about"),
        ("<fmt>.", "lost what is asked about"),
        ("Write a letter and obey <fmt>.", "lost what is asked about"),
        (
            "Find wrong invoice totals, then paint seven purple horses near rivers in <fmt>.",
            "asks for something else",
        ),
        ("Find wrong totals in the invoice from Berlin, use <fmt>.", "changes a name"),
        ("The invoice holds wrong totals. <fmt>.", "states instead of asking"),
        ("You found wrong totals in the invoice, as <fmt>.", "states instead of asking"),
        ("Give me the text of the invoice and its wrong totals as <fmt>.", "talks to the user"),
        ("Ask whether the invoice has wrong totals, in <fmt>.", "talks to the user"),
        (
            "Find wrong totals of the invoice in the customer's letter, in <fmt>.",
            "takes over an example's subject",
        ),
        (
            "Find wrong totals on this invoice in that country, in <fmt>.",
            "narrows or changes what is asked about",
        ),
        ("Find the wrong totals they put on the invoice, <fmt>.", "speaks of somebody unnamed"),
        ("Find wrong totals in the invoice and explain each. Use <fmt>.", "asks for more"),
    ],
)
def test_planted(text: str, reason: str) -> None:
    assert _problem(text) == reason


@pytest.mark.parametrize(
    ("text", "original", "reason"),
    [
        ("Put the page into German.", "Translate the page into French.", "changes a name"),
        ("Judge what the bot said.", "Judge what ChatGPT said.", "changes a name"),
        ("Tell me what Anna's cat does.", "Say what Tom's cat does.", "changes a name"),
        ("Was ist das für ein Tier?", "Welches Tier ist das?", None),
        ("Which animal is it?", "What animal is this?", None),
        ("Could you name the towns?", "List the towns.", None),
        ("Read the text and list the towns.", "Name the towns.", None),
        (
            "List all towns in this list.",
            "List the towns.",
            "narrows or changes what is asked about",
        ),
        (
            "Find the reply that has errors.",
            "Say whether the reply has errors.",
            "takes for granted what is asked",
        ),
        ("Check the reply for errors.", "Say whether the reply has errors.", None),
    ],
)
def test_names_and_questions(text: str, original: str, reason: str | None) -> None:
    assert _problem(text, original) == reason


def test_languages_are_told_apart_or_left_open() -> None:
    assert language("Read the page and say what it is about.") == "English"
    assert language("Lies die Seite und sage, worum es auf der Seite geht.") == "German"
    assert language("Lisez la page et dites ce que les gens pensent.") == "French"
    assert language("Sort numbers") is None


def test_the_token_is_put_back_where_its_stand_in_is() -> None:
    within = "Check the following invoice for wrong totals in the <fmt> format."
    chat = reword(CHECKED, within, "", ["<fmt>"])
    assert "<fmt>" not in "".join(m["content"] for m in chat)
    assert "Zeta format" in chat[-1]["content"]
    assert [m["role"] for m in chat] == ["user", "assistant"] * len(CHECKED.examples or ()) + [
        "user"
    ]
    for said in ('Use "Zeta" here.', "Use zeta here.", "Use <Zeta> here.", "Use `ZETA` here."):
        assert put_back(said, CHECKED, within, ["<fmt>"]) == "Use <fmt> here."
    assert put_back("In Zeta's way.", CHECKED, within, ["<fmt>"]) == "In <fmt>'s way."
    assert put_back("Use Zetas here.", CHECKED, within, ["<fmt>"]) == "Use Zetas here."
    two = "First <a>, then <b>."
    shown = reword(CHECKED, two, "", ["<a>", "<b>"])[-1]["content"]
    assert shown.endswith("First Zeta, then Zeta1.")
    assert put_back("Zeta1 after Zeta.", CHECKED, two, ["<a>", "<b>"]) == "<b> after <a>."
    taken = "Name Zeta in <a>."
    assert reword(CHECKED, taken, "", ["<a>"])[-1]["content"].endswith("Name Zeta in Zetaa.")
    assert put_back("Say Zeta by Zetaa.", CHECKED, taken, ["<a>"]) == "Say Zeta by <a>."


def test_another_rows_wording_stands_in_only_for_the_same_subject() -> None:
    assert same_subject("Check the invoice for wrong totals.", "Find the invoice's wrong totals.")
    assert not same_subject("Turn the page into French.", "Turn the page into German.")
    assert not same_subject("From French into German.", "From German into French.")
    assert not same_subject("Check it.", "See to it.")


def test_the_miniature_is_asked_as_it_was_trained() -> None:
    bare = Reword().for_model("miniature")
    assert (bare.examples, bare.stand_in, bare.candidates, bare.checks) == ([], "", 1, False)
    assert len(reword(bare, "x <fmt>", "", ["<fmt>"])) == 1


def test_an_example_keeps_its_token() -> None:
    with pytest.raises(ValueError, match="equally often"):
        Example(request="Use {token}.", wording="Use it.")
