"""A template filled to one HTML text that loads nothing from elsewhere.

The frame (``base.html.jinja``), the style and the script serve every page of this package and
of those above it; a page brings its own template and, where it needs one, its own folder.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delia_ray.report.words import clock, label, number

HERE = Path(__file__).parent


def fill(template: str, values: Mapping[str, Any], folders: Sequence[Path] = ()) -> str:
    """The page that ``template`` makes of ``values``; same values, same bytes.

    Args:
        template: the name of a file that extends ``base.html.jinja``.
        values: its variables. Text in them is escaped unless it is Markup.
        folders: where to look for templates before this package's own folder.

    Returns:
        A whole page. Its content security policy lets it load nothing and run only the one
        script, which it names by digest.

    Raises:
        jinja2.UndefinedError: the template asks for what ``values`` lack.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader([*folders, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": number, "label": label, "clock": clock}
    script = (HERE / "script.js.jinja").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return env.get_template(template).render(
        **values,
        style=Markup((HERE / "style.css.jinja").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )
