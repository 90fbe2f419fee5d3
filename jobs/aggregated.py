"""What the aggregation of a submission leaves in its folder, beside the report."""

from typing import Literal

from caltech_exp.record import StrictRecord

AGGREGATED = "aggregation.json"


class Aggregated(StrictRecord):
    """How the aggregation of a submission ended; `reason` says in a line why it failed, `when` in UTC."""

    schema_version: Literal[1] = 1
    status: Literal["finished", "failed"]
    reason: str
    job: str
    log: str
    when: str
