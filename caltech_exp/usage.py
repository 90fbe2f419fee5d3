"""The help of a command: all of its options, or one of them with its range, default and an example."""

from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from caltech_exp.cli import DECORATION, key_of, unknown

BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


class Usage(str):
    """Help text, with the models whose options it lists."""

    models: tuple[type[BaseModel], ...] = ()

    @property
    def fields(self) -> dict[str, FieldInfo]:
        """Every option by its name on the command line."""
        return {key_of(name, field): field for model in self.models for name, field in model.model_fields.items()}

    def describe(self, key: str) -> str:
        """`help=lr`: one option with its range, default and an example."""
        name = key.strip(f"{DECORATION}=").replace("-", "_")
        if name not in self.fields:
            raise unknown("option", key, self.fields)
        field = self.fields[name]
        words = field_choices(field) or [
            f"{text} {getattr(bound, attribute)}"
            for bound in field.metadata
            for attribute, text in BOUNDS.items()
            if hasattr(bound, attribute)
        ]
        default = "" if field.is_required() or field.default in (None, "") else str(field.default)
        default = default.lower() if field.annotation is bool else default
        others = [word for word in field_choices(field) if word != default]
        example = str((field.examples or others or [default or "..."])[0])
        lines = {"takes": ", ".join(words), "default": default, "example": f"{name}={example}"}
        return "\n".join([f"{name}: {field.description}", *(f"  {k:9}{v}" for k, v in lines.items() if v)])


def field_choices(field: FieldInfo) -> list[str]:
    """The words that an option takes; empty if it takes other values."""
    if field.annotation is bool:
        return ["true", "false"]
    kinds = [field.annotation, *get_args(field.annotation)]
    return [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]


def usage(synopsis: str, *models: type[BaseModel]) -> Usage:
    """Help text: every option of the models with its default and meaning."""
    lines = [synopsis, ""]
    for model in models:
        for name, field in model.model_fields.items():
            if field.description is None:  # nobody types it
                continue
            has_default = not field.is_required() and field.default not in (None, (), "")
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            shown_default = f" [{default}]" if has_default else ""
            lines.append(f"  {key_of(name, field) + '=':18}{field.description or ''}{shown_default}")
        lines.append("")
    text = Usage("\n".join(lines).rstrip())
    text.models = models
    return text
