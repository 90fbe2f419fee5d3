"""The networks: how many parameters the report's have, and the rows that are best with each."""

from collections.abc import Iterable
from dataclasses import dataclass

from caltech_exp.catalog import row_key
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.sentences import Known, known_rows
from caltech_exp.reporting.vocabulary import network_name

PARAMETERS = {"alexnet": 57_421_734, "resnet18": 11_228_838}
"""Weights and biases with a last layer of 102 outputs (A. Krizhevsky, arXiv:1404.5997, as torchvision builds it;
K. He et al., arXiv:1512.03385). A test counts them in torchvision's networks."""


@dataclass(frozen=True)
class Way:
    """A network and where its training starts: from scratch, or from pretrained weights."""

    model: str
    pretrained: bool

    def __str__(self) -> str:
        return f"{network_name(self.model)} {'pretrained' if self.pretrained else 'from scratch'}"


WAYS = tuple(Way(model, pretrained) for model in PARAMETERS for pretrained in (False, True))


@dataclass(frozen=True)
class Best:
    """The row of the best measured mean of a way, and where it stands: `scratch.lr=5e-2`."""

    way: Way
    key: str
    known: Known


def best_rows(collected: Collected) -> list[Best]:
    """For every way of which any row has a finished run, the report's first."""
    found = []
    for way in dict.fromkeys([*WAYS, *(_way(one) for _, one in _known(collected))]):
        rows = [(key, one) for key, one in _known(collected) if _way(one) == way]
        if rows:
            key, known = max(rows, key=lambda pair: pair[1].mean)
            found.append(Best(way, key, known))
    return found


def _known(collected: Collected) -> Iterable[tuple[str, Known]]:
    for (section, table), rows in collected.rows.items():
        for one in known_rows(rows):
            yield row_key(section, table, one.label), one


def _way(known: Known) -> Way:
    config = known.row.config
    return Way(config.model, config.pretrained)
