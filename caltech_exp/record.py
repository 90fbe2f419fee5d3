"""The base of everything that is written down: frozen, and strict about what it holds.

Others may write into a study, so what a record says becomes part of a path, a command or a line on the screen only
in these forms.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
"""A name that is one part of a path and no option of a command, as of a submission."""
FileName = Annotated[str, StringConstraints(pattern=r"^[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*$", max_length=255)]
"""A name that is one part of a path. One that is no run's (study.RUN_FOLDER) is passed over."""
JobId = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.+-]*)?$", max_length=64)]
"""A job's id: of Slurm (`1234_5`), of this machine's queue (`local-0`) or of submitit. Empty if unknown."""
HostName = Annotated[str, StringConstraints(pattern=r"^[\w.:()-]*$", max_length=255)]
"""As process.host_name gives it; empty where there is none."""
RecordedPath = Annotated[str, StringConstraints(max_length=4096)]
"""To be shown. It is not opened: it may name any file (manifest.recorded_log)."""


class StrictRecord(BaseModel):
    """A record without unknown fields, unchanged once made. Raises pydantic.ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")
