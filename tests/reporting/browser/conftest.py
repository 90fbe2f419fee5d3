"""The system's Chromium, the page of a study that does its worst, and the page of the simulated study."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, expect, sync_playwright

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.page import build_report
from caltech_exp.reporting.render.html import to_html
from caltech_exp.study.results import Device
from tests.conftest import made_once
from tests.reporting.browser.visits import FAILED, HOSTILE, WIDE, Open, Theme, Visit
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000
"""Milliseconds: a busy machine takes 30 s to draw a page of 6 MB."""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; CI fails without it."""
    path = next((path for name in NAMES if (path := shutil.which(name))), None)
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

    def make(folder: Path) -> None:
        _write_hostile_page(folder, stand_in)

    return made_once(tmp_path_factory, "page", make) / "out" / "report.html"


@pytest.fixture(scope="session")
def simulated_file(simulated_report: Path) -> Path:
    """The report of the simulated study, three runs a row."""
    return simulated_report / "report.html"


def _write_hostile_page(folder: Path, stand_in: Path) -> None:
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
    frames = read_study(study.path)
    (out / "report.html").write_text(to_html(build_report(frames, out, str(stand_in)).blocks, frames, out))


@pytest.fixture
def visit(chromium: Browser, file: Path) -> Iterator[Open]:
    """Open the page of the hostile study, or another, at a size, in a theme."""
    contexts = []

    def open_page(
        size: tuple[int, int] = WIDE, theme: Theme = "light", page: Path = file, **options: Any
    ) -> Visit:
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        tab = context.new_page()
        errors: list[str] = []
        requests: list[str] = []

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append(message.text)

        def on_dialog(dialog: Dialog) -> None:
            errors.append(dialog.message)
            dialog.dismiss()

        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", on_console)
        tab.on("dialog", on_dialog)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        return Visit(tab, errors, requests)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def visit_simulated(visit: Open, simulated_file: Path) -> Open:
    """Open the page of the simulated study."""

    def open_page(size: tuple[int, int] = WIDE, theme: Theme = "light") -> Visit:
        return visit(size, theme, simulated_file)

    return open_page
