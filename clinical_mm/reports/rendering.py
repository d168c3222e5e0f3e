"""Templates to self-contained pages: everything escaped, style and script inside, and a policy that allows no more.

The content security policy lets a page load nothing: its own style sheet and script run by their hashes, pictures are
`data:`. What stands on a page does not belong here.
"""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clinical_mm.reports import wording

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, script: str | None = None, **values: object) -> str:
    """A page.

    Args:
        template: name of a template of this package that extends `base.html`.
        script: name of a script of this package that the page runs; default: none.
        values: what the template reads.
    """
    style = _asset("style.css")
    code = _asset(script) if script else ""
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_source_hash(style)}'",
        f"script-src '{_source_hash(code)}'" if code else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(code), policy="; ".join(policy), **values)
    )


def data_uri(png: bytes) -> str:
    """A PNG as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


@lru_cache
def _environment() -> Environment:
    # The script and style are this package's own files; every other value goes through autoescape.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=wording.signed, number=wording.number, percent=wording.percent, counted=wording.counted
    )
    environment.globals["interval"] = wording.interval
    return environment


@lru_cache
def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _source_hash(text: str) -> str:
    """The hash by which a policy allows an inline element: SHA-256 of exactly what stands between its tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
