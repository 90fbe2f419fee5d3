"""The script that draws the page's plots.

BokehJS: 1.4 MB with its plotting interface, against 4.8 MB of plotly.js, the other well-kept library whose script
comes with its Python package; it needs no eval, so that the page's security policy can forbid it. Only the script
is used, so that nothing has to import bokeh: `reports/web/curves.js` calls it in the browser.
"""

import importlib.util
from pathlib import Path

from caltech_exp.cli import UserError

SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")


def plot_library() -> tuple[str, ...]:
    """The scripts in the order in which they must run. Raises UserError if bokeh is not installed."""
    found = importlib.util.find_spec("bokeh")
    if found is None or not found.submodule_search_locations:
        raise UserError("the report's plots need bokeh, which is not installed; run pip install -e .")
    folder = Path(found.submodule_search_locations[0]) / "server" / "static" / "js"
    try:
        return tuple((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); install bokeh again") from None
