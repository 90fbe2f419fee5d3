"""Command lines of `key=value` words, and one-line errors for the user's mistakes."""

import difflib
import errno
import io
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
VALUE = "VALUE"
"""In a hint, the place of the value that the user typed."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 2


class UserError(Exception):
    """A mistake of the user: one line that says what is wrong, where, and what to do.

    Messages quote files and commands, so characters that cannot be printed are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with line ends, terminal codes and invalid bytes as escapes."""
    if text.isprintable():  # the usual case, and status asks for thousands of runs
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shown(value: object, most: int = 100) -> str:
    """A value as an error quotes it, cut after `most` characters."""
    text = value if isinstance(value, str) else _REPR.repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def closest(name: str, known: Collection[str]) -> str | None:
    """The known name that is most similar to `name`; None if no name is similar."""
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error: `; did you mean 'x'?`, or a list of the known names."""
    names = list(known)
    if match := closest(name, names):
        return f"; did you mean {match!r}?"
    separator = "; " if any("," in name for name in names) else ", "
    return f"; known: {separator.join(names)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown section 'trasnfer'; did you mean 'transfer'?`"""
    return UserError(f"unknown {kind} {shown(name)!r}{did_you_mean(name, known)}")


def split_arguments(
    argv: Sequence[str],
    known: Sequence[str],
    flags: Collection[str] = (),
    hints: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """`["lr=1e-2", "runs=my runs"]` -> `{"lr": "1e-2", "runs": "my runs"}`; values stay as they are typed.

    flags  the known keys that take true or false
    hints  words that users mistake for keys -> what to write instead, in which VALUE is replaced
    """
    values: dict[str, str] = {}
    for argument in argv:
        key, equals, value = argument.partition("=")
        if not equals:
            correction = _correction(key, "", known, flags, hints)
            raise UserError(f"{shown(argument)!r} is not of the form key=value{correction}")
        if key not in known:
            raise UserError(f"unknown key {shown(key)!r}{_correction(key, value, known, flags, hints)}")
        if key in values:
            raise UserError(f"{key} is given twice, {shown(values[key])!r} and {shown(value)!r}; keep one")
        if not value:
            raise UserError(f"{key}= has no value; give one, or leave {key}= out")
        if "\0" in value or not _is_utf8(value):
            raise UserError(f"{key}={shown(value)} is not valid UTF-8 text; use another name")
        values[key] = value
    return values


def _correction(
    word: str, value: str, known: Sequence[str], flags: Collection[str], hints: Mapping[str, str]
) -> str:
    """What to write instead of `word=value`, or of the word alone if `value` is empty."""
    name = word.lstrip("-").replace("-", "_")
    if name in known:
        return f"; write {name}={shown(value) or ('true' if name in flags else '...')}"
    settings = {hint for hint, correction in hints.items() if VALUE in correction}
    match = name if name in hints else closest(name, {*known, *settings}) or ""
    if match in hints and match not in known:
        return f"; write {hints[match].replace(VALUE, shown(value) or '...')}"
    return did_you_mean(name, known)


def _is_utf8(value: str) -> bool:
    """False for a word with invalid bytes, which Python keeps but no JSON file can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def explain(error: ValidationError, fields: Mapping[str, FieldInfo], where: str = "") -> UserError:
    """The first complaint of a pydantic model, with the setting and what it takes.

    where  begins the message, for example the name of the file
    """
    first = error.errors(include_url=False)[0]
    key = shown(".".join(str(part) for part in first["loc"] if part != "[key]"))
    prefix = f"{where}: " if where else ""
    takes = _takes(fields.get(str(first["loc"][0]))) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return UserError(f"{prefix}unknown setting {key!r}{did_you_mean(key, fields)}")
    if first["type"] == "missing":
        return UserError(f"{prefix}setting {key!r} is missing{takes}")
    message = reason(first)
    if not key:
        return UserError(f"{prefix}{message}")
    if "[key]" in first["loc"]:  # a name in a mapping is wrong, not its value
        return UserError(f"{prefix}{key}: {message}")
    value = first["input"]
    options = _options(first)
    hint = did_you_mean(value, options) if isinstance(value, str) and options else ""
    return UserError(f"{prefix}{key}={shown(value)}: {message[:1].lower()}{message[1:]}{hint}{takes}")


def reason(error: Any) -> str:
    """What one of pydantic's errors says, without pydantic's own beginning."""
    return str(error["msg"]).removeprefix("Value error, ")


def _options(error: Any) -> list[str]:
    """The values that a setting with a list of names takes."""
    if error["type"] != "literal_error":
        return []
    return [str(option) for option in error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")]


def _takes(field: FieldInfo | None) -> str:
    return f" ({field.description})" if field is not None and field.description else ""


class Options(BaseModel):
    """The options of a command: one field an option, whose description is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate `values` as `model`; an error names the setting and what it takes."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model.model_fields) from None


def read_options(model: type[Model], argv: Sequence[str]) -> Model:
    """A command line whose keys are the model's fields."""
    keys = [_key(name, field) for name, field in model.model_fields.items()]
    return parse(model, split_arguments(argv, keys, flags(model)))


def flags(model: type[BaseModel]) -> list[str]:
    """The model's keys that take true or false."""
    return [_key(name, field) for name, field in model.model_fields.items() if field.annotation is bool]


def _key(name: str, field: FieldInfo) -> str:
    """The field's name on the command line: its alias, if Python reserves the name."""
    return field.alias or name


def usage(synopsis: str, *models: type[BaseModel]) -> str:
    """Help text: every option of the models with its default and meaning."""
    lines = [synopsis, ""]
    for model in models:
        for name, field in model.model_fields.items():
            has_default = not field.is_required() and field.default not in (None, (), "")
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            lines.append(
                f"  {_key(name, field) + '=':18}{field.description or ''}{f' [{default}]' if has_default else ''}"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def run_command_line(
    main: Callable[[Sequence[str]], int], synopsis: str, reword: Callable[[str], str] = str
) -> NoReturn:
    """Run `main(argv)` and exit with its status; a UserError or a stale file (ESTALE) is printed in one line.

    reword  changes the help text and the error before they are printed
    """
    argv = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal may not be able to show a path
    status = 0
    try:
        if any(word in ("-h", "--help", "help") for word in argv):
            print(reword(synopsis))
        else:
            status = main(argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {reword(str(error))}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        status = 0
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        file = error.filename or "a file"
        print(
            f"error: {file}: the file server cannot find it right now ({error.strerror}); run the command again",
            file=sys.stderr,
        )
        status = EXIT_USER_ERROR
    raise SystemExit(status)
