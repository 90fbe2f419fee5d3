"""The base of everything that is written down: frozen, and strict about what it holds."""

from pydantic import BaseModel, ConfigDict


class StrictRecord(BaseModel):
    """A record without unknown fields, unchanged once made. Raises pydantic.ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")
