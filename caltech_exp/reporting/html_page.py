"""Blocks as one HTML file that needs nothing else: styles, scripts, curves and pictures are inside.

A Content-Security-Policy lets exactly the scripts written here run, by their hash, and nothing be loaded.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from caltech_exp.reporting.blocks import Block, Heading, Picture
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.curve_json import curve_json, keyed_rows
from caltech_exp.reporting.embedded import data_uri
from caltech_exp.reporting.inline import inline_html, inline_text
from caltech_exp.reporting.page import CACHE, caution_notes
from caltech_exp.reporting.plot_library import plot_library
from caltech_exp.reporting.run_list import anchor, run_groups

WEB = Path(__file__).parent / "web"
EARLY_SCRIPTS = ("theme.js",)
"""Run before anything is shown."""
LATE_SCRIPTS = ("sort.js", "contents.js", "plots.js", "curves.js")


@dataclass(frozen=True)
class Chapter:
    """A heading of level 1 or 2 and what follows up to the next."""

    heading: Heading
    blocks: tuple[Block, ...]

    @property
    def parts(self) -> tuple[Heading, ...]:
        """The headings below its own."""
        return tuple(block for block in self.blocks if isinstance(block, Heading))


def to_html(
    blocks: Sequence[Block], collected: Collected, folder: Path, finish: Callable[[], None] = lambda: None
) -> str:
    """The page, with the pictures that lie in `folder` and a list of all runs. Raises OSError, UserError.

    finish  waits until the pictures are there: called once all else that takes time is done
    """
    early = _scripts(EARLY_SCRIPTS)
    late = (*plot_library(), *_scripts(LATE_SCRIPTS))
    environment = Environment(
        loader=FileSystemLoader(WEB),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "inline": inline_html,
        "words": inline_text,
        "kind": lambda block: type(block).__name__,
        "picture": lambda picture: data_uri(picture, folder, folder / CACHE / "embedded"),
    }
    environment.globals["refuse"] = _refuse
    first, *chapters = _chapters(blocks)
    template, curves, groups = environment.get_template("page.html"), curve_json(collected), run_groups(collected)
    finish()
    return template.render(
        policy=_policy((*early, *late)),
        style=_raw((WEB / "style.css").read_text(encoding="utf-8")),
        early_scripts=[_raw(script) for script in early],
        late_scripts=[_raw(script) for script in late],
        curves=_raw(curves),
        first=first,
        chapters=chapters,
        groups=groups,
        cautions=caution_notes(collected),
        anchors={key: anchor(row) for key, row in keyed_rows(collected).items()},
        drawn_rows={block.row for block in blocks if isinstance(block, Picture)},
        figures=[block for block in blocks if isinstance(block, Picture) and block.number],
    )


def _refuse(kind: str) -> None:
    """A kind of block that the template does not know. Raises TypeError, rather than leaving it out."""
    raise TypeError(f"reports/web/blocks.html cannot render {kind}")


def _chapters(blocks: Sequence[Block]) -> list[Chapter]:
    chapters: list[Chapter] = []
    for block in blocks:
        if isinstance(block, Heading) and block.level <= 2:
            chapters.append(Chapter(block, ()))
        else:
            last = chapters[-1]
            chapters[-1] = Chapter(last.heading, (*last.blocks, block))
    return chapters


def _scripts(names: Sequence[str]) -> tuple[str, ...]:
    return tuple((WEB / name).read_text(encoding="utf-8") for name in names)


def _raw(text: str) -> Markup:
    """Text of this package, or escaped already, that goes into the page as it is."""
    return Markup(text)


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be loaded or sent. Styles are free, since the plots set theirs as they are drawn."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
