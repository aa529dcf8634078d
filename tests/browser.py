"""A real browser for pages, where the machine has one: a page in a frame of a given width, and a
script outside it that acts as a reader would and says what it saw."""

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is here")


def ask(page: str, script: str, tmp_path: Path, width: int = 1280) -> Any:
    """What the body of a JavaScript function of ``page`` (the document in the frame) returns.

    Args:
        page: the page's text; its content security policy holds inside the frame.
        script: the function's body; what it returns must survive JSON.
        tmp_path: an empty folder.
        width: of the frame, in CSS pixels.
    """
    assert BROWSER is not None
    outside = tmp_path / "outside.html"
    outside.write_text(
        f'<!doctype html><meta charset="utf-8"><iframe id="frame" style="border:0;width:{width}px;'
        f'height:900px" srcdoc="{html.escape(page)}"></iframe><pre id="said"></pre><script>'
        'onload = function () { var frame = document.getElementById("frame"), said;'
        "try { said = {value: (function (page) {" + script + "}(frame.contentDocument))}; }"
        "catch (error) { said = {error: String(error)}; }"
        'document.getElementById("said").textContent = JSON.stringify(said); };</script>',
        encoding="utf-8",
    )
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [BROWSER, *FLAGS, profile, "--dump-dom", outside.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    said = done.stdout.rpartition('<pre id="said">')[2].partition("</pre>")[0]
    answer = json.loads(html.unescape(said))
    assert "error" not in answer, answer["error"]
    return answer["value"]


SIDEWAYS = """
return {
  page: page.documentElement.scrollWidth,
  outside: Array.from(page.body.querySelectorAll("*")).filter(function (node) {
    var box = node.getBoundingClientRect();
    return box.width > 0 && box.right > page.documentElement.clientWidth + 1 &&
      !node.closest(".scroll") && !node.closest("nav") && !node.closest("svg");
  }).map(function (node) { return node.outerHTML.slice(0, 80); }),
  text: Math.min.apply(null, Array.from(page.querySelectorAll("svg text")).map(function (node) {
    var svg = node.closest("svg");
    return parseFloat(getComputedStyle(node).fontSize) *
      svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  })),
};
"""
"""The page's width, what stands out of it on the right (but for what has a scroller of its own),
and the height of the smallest text of a plot, in CSS pixels."""
