"""The campaign in its short form: a few disturbances, others each day. `make campaign` is the long one."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tools import campaign, disturbances
from tests.tools.campaign import KINDS, Decks, Record, Shape

SHORT = 10
LEAST = 5
"""A machine that is fast or lucky ends all studies before all of them came about."""
MOST_STUDIES = 3
LONG = (disturbances.suspend, disturbances.suspend_past_take_over, disturbances.time_limit)
"""These wait for minutes."""


def test_a_deck_has_every_kind_and_the_seed_decides_what_comes_when() -> None:
    decks, others = Decks(3), Decks(4)
    assert {kind.__name__ for kind in decks.deck(0)} == {kind.__name__ for _, kind in KINDS}
    assert decks.deck(0) == decks.deck(0) != decks.deck(1)
    assert decks.deck(0) != others.deck(0)
    size = len(decks.deck(0))
    assert [decks.disturbance(number)[0] for number in range(size, 2 * size)] == decks.deck(1)
    assert decks.disturbance(7)[1].random() == decks.disturbance(7)[1].random() != decks.disturbance(8)[1].random()


def test_what_was_not_checked_does_not_count(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.add("disturbance", number=0, study=1)
    record.add("checked", study=1)
    record.add("disturbance", number=1, study=2)
    assert [entry["number"] for entry in record.made()] == [0]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the second user may enter; those of pytest are closed."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        yield Path(folder)


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_disturbed_runs_end_as_undisturbed_ones(open_folder: Path) -> None:
    decks = Decks(datetime.now(UTC).toordinal(), tuple(entry for entry in KINDS if entry[1] not in LONG))
    counts = campaign.start(open_folder, SHORT, decks, Shape(seeds=4), MOST_STUDIES)
    assert sum(counts.values()) >= LEAST
    record = Record(open_folder / "record.jsonl")
    assert not +campaign.broken_promises(record), record.path.read_text()
