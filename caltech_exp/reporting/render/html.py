"""The report as one HTML file that needs nothing else: styles, scripts, curves and pictures are inside.

A Content-Security-Policy lets exactly the scripts written here run, by their hash, and nothing be loaded.
"""

import base64
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from caltech_exp.cli import UserError
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Heading,
    Interval,
    Picture,
    Spread,
    Value,
    printable,
    shown,
)
from caltech_exp.reporting.render.curve_data import curve_json, row_anchors, run_groups

WEB = Path(__file__).parent.parent / "web"
EARLY_SCRIPTS = ("scheme.js",)
"""Scripts that run before anything is shown."""
LATE_SCRIPTS = ("tables.js", "navigation.js", "bokeh_plots.js", "live_curves.js")
BOKEH_SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")
"""BokehJS has 1.4 MB with its plotting interface, plotly.js 4.8 MB. It needs no eval, so the policy can forbid it.
The page uses only the scripts: nothing has to import bokeh."""
LONG_LABEL = 12
"""Letters from which a row's label needs the room of its numbers, which then take two lines."""
VERDICTS = {"agrees", "differs", "inconclusive", "supported", "contradicted"}


@dataclass(frozen=True)
class Chapter:
    """A heading of level 1 or 2 and what follows up to the next."""

    heading: Heading
    blocks: list[Block] = field(default_factory=list)

    @property
    def parts(self) -> list[Heading]:
        """The headings below its own that the contents list."""
        return [block for block in self.blocks if isinstance(block, Heading) and block.is_listed]


def to_html(blocks: Sequence[Block], study: StudyFrames, folder: Path) -> str:
    """The page, with the pictures that lie in `folder` and a list of the study's runs. Raises OSError."""
    early = _scripts(EARLY_SCRIPTS)
    late = (*bokeh_scripts(), *_scripts(LATE_SCRIPTS))
    first, *chapters = split_chapters(blocks)
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
        "cell": cell,
        "shown": lambda value, kind: shown(Column("", kind), value),
        "printable": printable,
        "heading": heading_cell,
        "has_long_labels": lambda table: any(len(str(row[0])) > LONG_LABEL for row in table.rows),
        "number": sort_number,
        "verdict": lambda value: value if value in VERDICTS else "",
        "picture": partial(data_uri, folder=folder),
    }
    environment.globals |= {"refuse": _refuse, "anchors": row_anchors(study)}
    return environment.get_template("report.html").render(
        policy=_policy((*early, *late)),
        style=Markup((WEB / "report.css").read_text(encoding="utf-8")),
        early_scripts=[Markup(script) for script in early],
        late_scripts=[Markup(script) for script in late],
        curves=Markup(curve_json(study)),
        first=first,
        sections=[chapter for chapter in chapters if not chapter.heading.is_appendix],
        appendix=[chapter for chapter in chapters if chapter.heading.is_appendix],
        groups=run_groups(study),
    )


def split_chapters(blocks: Sequence[Block]) -> list[Chapter]:
    """The blocks by headings of level 1 and 2; the first block must be one."""
    chapters: list[Chapter] = []
    for block in blocks:
        if isinstance(block, Heading) and block.level <= 2:
            chapters.append(Chapter(block))
        else:
            chapters[-1].blocks.append(block)
    return chapters


def bokeh_scripts() -> tuple[str, ...]:
    """BokehJS, in the order in which its scripts must run. Raises UserError if bokeh is not installed."""
    spec = importlib.util.find_spec("bokeh")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the report's plots need bokeh, which is not installed; run pip install -e .")
    folder = Path(spec.submodule_search_locations[0]) / "server" / "static" / "js"
    try:
        return tuple((folder / name).read_text(encoding="utf-8") for name in BOKEH_SCRIPTS)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); install bokeh again") from None


@cache
def _markdown() -> MarkdownIt:
    """CommonMark's inline rules; HTML in the text stays text, and nothing loads an image."""
    return MarkdownIt("commonmark", {"html": False}).disable(["image", "autolink", "html_inline"])


def inline_html(text: str) -> Markup:
    """Inline Markdown as HTML, everything foreign in it escaped."""
    return Markup(_markdown().renderInline(text))


def inline_text(text: str) -> str:
    """Inline Markdown as it reads, without its markup: for attributes."""
    (line,) = _markdown().parseInline(text)
    return "".join(token.content for token in line.children or () if token.type in ("text", "code_inline"))


_KEY_PARTS = re.compile(r"(?<=[=_])(?=\w)|(?<=\w\.)(?=[a-z])")
"""Places where a long key such as `transfer.batch_size=1024` may be broken."""


def cell(value: Value, column: Column) -> Markup:
    """A table's cell; what follows a number, such as its ±, may go to a line of its own."""
    first, _, rest = shown(column, value).partition(" ")
    match value:
        case Interval(half_width=None):
            style, rest = "reason", rest.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        case Interval() | Spread():
            style = "spread"
        case _:
            return Markup("<wbr>").join(_KEY_PARTS.split(shown(column, value)))
    return Markup('{} <span class="{}">{}</span>').format(first, style, rest) if rest else Markup.escape(first)


def heading_cell(heading: str) -> Markup:
    """A column's heading; what follows ± may go to a line of its own."""
    first, sign, rest = heading.replace(" %", "\u00a0%").partition(" ±")
    return Markup('{} <span class="unit">±{}</span>').format(first, rest) if sign else Markup.escape(first)


def sort_number(value: Value) -> float | None:
    """The number by which a cell is sorted; None for a text or nothing, which come last."""
    match value:
        case Spread(mean) | Interval(mean):
            return mean
        case int() | float():
            return value
    return None


def data_uri(picture: Picture, folder: Path) -> str:
    """A picture whose files lie in `folder` as a data URI. Raises OSError."""
    content = base64.b64encode((folder / picture.path("svg")).read_bytes())
    return f"data:image/svg+xml;base64,{content.decode()}"


def _refuse(kind: str) -> None:
    """Raises TypeError for a kind of block that the template does not know, rather than leaving it out."""
    raise TypeError(f"web/macros.html cannot render {kind}")


def _scripts(names: Sequence[str]) -> tuple[str, ...]:
    return tuple((WEB / name).read_text(encoding="utf-8") for name in names)


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be loaded or sent. Styles are free, since the plots set theirs as they are drawn."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
