"""The system's Chromium, and in it the page of a study that does its worst."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, sync_playwright

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.html_page import to_html
from caltech_exp.reporting.page import report_page
from caltech_exp.study.results import Device
from tests.reporting.browser.visits import FAILED, HOSTILE, WIDE, Open, Theme, Visit
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; CI fails without it."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = "no Chromium here: make test-browser installs it on Debian"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory, stand_in: Path) -> Path:
    """The report of a study whose names, paths and errors do their worst, of two runs a row."""
    folder = tmp_path_factory.mktemp("page")
    study = SampleStudy(folder / "a 'study' & <b> $x$")
    study.start(root=HOSTILE)
    for section in THE_REPORT.sections:
        for table in section.tables:
            for row in table.rows:
                final = row.reported.mean if row.reported else 0.6
                for seed in (0, 1):
                    study.add(
                        make_diverged(row.config, seed) if row.diverges else make_result(row.config, seed, final)
                    )
    study.add(make_result(row_config("scratch.lr", "1e-2"), 2, device=Device(type="cpu", name=HOSTILE)))
    study.submit(FAILED)
    study.fail(FAILED, HOSTILE)
    out = folder / "out"
    (out / "figures").mkdir(parents=True)
    collected = study.collect()
    blocks = report_page(collected, out, str(stand_in))
    page = out / "report.html"
    page.write_text(to_html(blocks, collected, out))
    return page


@pytest.fixture
def visit(chromium: Browser, file: Path) -> Iterator[Open]:
    """Open the page at a width, in a theme."""
    contexts = []

    def open_page(width: int = WIDE, theme: Theme = "light", **options: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        errors: list[str] = []
        requests: list[str] = []

        def on_console(said: ConsoleMessage) -> None:
            if said.type in ("error", "warning"):
                errors.append(said.text)

        def on_dialog(dialog: Dialog) -> None:
            errors.append(dialog.message)
            dialog.dismiss()

        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", on_console)
        page.on("dialog", on_dialog)
        page.on("request", lambda sent: requests.append(sent.url))
        page.goto(file.as_uri())
        return Visit(page, errors, requests)

    yield open_page
    for context in contexts:
        context.close()
