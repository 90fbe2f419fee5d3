"""Command lines of `key=value` words, and mistakes of the user in one line."""

import difflib
import errno
import io
import reprlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

EXIT_USER_ERROR = 2
"""Exit status of every command line for a mistake in what it was given."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


class UserError(Exception):
    """What was wrong, where, and what to do about it, in one line.

    Messages repeat what stands in files and commands, so what cannot be printed is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with line ends, terminal codes and bytes that are no text as escapes."""
    if text.isprintable():  # nearly always, and thousands of runs ask
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def shown(value: object, most: int = 100) -> str:
    """A value as an error names it: at most about `most` characters, however long or deep it is."""
    text = value if isinstance(value, str) else _SHORT.repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion to append to an error: `; did you mean 'x'?`, or a list of what is known."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    between = "; " if any("," in one for one in known) else ", "
    return f"; known: {between.join(known)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown section 'trasnfer'; did you mean 'transfer'?`"""
    return UserError(f"unknown {kind} {shown(name)!r}{did_you_mean(name, known)}")


Model = TypeVar("Model", bound=BaseModel)


VALUE = "VALUE"
"""In a hint, what was given with the word."""


def split_arguments(
    argv: Sequence[str],
    known: Sequence[str],
    flags: Collection[str] = (),
    hints: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """`["lr=1e-2", "runs=my runs"]` -> `{"lr": "1e-2", "runs": "my runs"}`; values are taken as they stand.

    flags  those of the known keys that are true or false
    hints  other words that are easily taken for a key -> what to write instead, with VALUE in it

    Raises UserError for a word without `=`, an unknown key (with a suggestion), a repeated key, no value.
    """
    values: dict[str, str] = {}
    for argument in argv:
        key, equals, value = argument.partition("=")
        if not equals:
            instead = _instead(key, "", known, flags, hints)
            raise UserError(f"{shown(argument)!r} is not of the form key=value{instead}")
        if key not in known:
            raise UserError(f"unknown key {shown(key)!r}{_instead(key, value, known, flags, hints)}")
        if key in values:
            raise UserError(f"{key} is given twice, {shown(values[key])!r} and {shown(value)!r}; keep one")
        if not value:
            raise UserError(f"{key}= has no value; give one, or leave {key}= out")
        if "\0" in value or not _is_text(value):
            raise UserError(f"{key}={shown(value)} is not text in UTF-8; name it otherwise")
        values[key] = value
    return values


def _instead(word: str, value: str, known: Sequence[str], flags: Collection[str], hints: Mapping[str, str]) -> str:
    """What to write in place of `word=value`, or of the word alone where there is no value."""
    name = word.lstrip("-").replace("-", "_")
    if name in known:
        return f"; write {name}={shown(value) or ('true' if name in flags else '...')}"
    settings = {hint for hint, instead in hints.items() if VALUE in instead}
    near = difflib.get_close_matches(name.lower(), {*known, *settings}, n=1)
    meant = name if name in hints else next(iter(near), "")
    if meant in hints and meant not in known:
        return f"; write {hints[meant].replace(VALUE, shown(value) or '...')}"
    return did_you_mean(name, known)


def _is_text(value: str) -> bool:
    """False for bytes that are no UTF-8: Python keeps them, but no record could be written with them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def explain(error: ValidationError, fields: Mapping[str, FieldInfo], where: str = "") -> UserError:
    """The first complaint of a pydantic model as one line that names the setting and what it takes.

    `where` is put before it, for example the file the values stood in.
    """
    first = error.errors(include_url=False)[0]
    named = "[key]" in first["loc"]  # what is wrong is a name in a mapping, not what it is given
    key = shown(".".join(str(part) for part in first["loc"] if part != "[key]"))
    prefix = f"{where}: " if where else ""
    top = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return UserError(f"{prefix}unknown setting {key!r}{did_you_mean(key, fields)}")
    if first["type"] == "missing":
        return UserError(f"{prefix}setting {key!r} is missing{describe(fields.get(top))}")
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return UserError(f"{prefix}{message}")
    if named:
        return UserError(f"{prefix}{key}: {message}")
    given = first["input"]
    hint = did_you_mean(given, options) if isinstance(given, str) and (options := _options(first)) else ""
    return UserError(
        f"{prefix}{key}={shown(given)}: {message[:1].lower()}{message[1:]}{hint}{describe(fields.get(top))}"
    )


def _options(error: Any) -> list[str]:
    """The allowed values of a failed choice, for a suggestion."""
    if error["type"] != "literal_error":
        return []
    return [str(option) for option in error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")]


def describe(field: FieldInfo | None) -> str:
    return f" ({field.description})" if field is not None and field.description else ""


def parse(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate `values` as `model`. Raises UserError that names the setting and what it takes."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model.model_fields) from None


def read_options(model: type[Model], argv: Sequence[str]) -> Model:
    """A command line whose keys are the model's fields. Raises UserError for the first word that is wrong."""
    return parse(
        model, split_arguments(argv, [_key(*field) for field in model.model_fields.items()], flags(model))
    )


def flags(model: type[BaseModel]) -> list[str]:
    """The model's keys that are true or false."""
    return [_key(name, field) for name, field in model.model_fields.items() if field.annotation is bool]


def _key(name: str, field: FieldInfo) -> str:
    """What a field is called on the command line: its alias, where Python has the name already."""
    return field.alias or name


def usage(synopsis: str, *models: type[BaseModel]) -> str:
    """Help text: every option of the models with its default and meaning."""
    lines = [synopsis, ""]
    for model in models:
        for name, field in model.model_fields.items():
            none = field.is_required() or field.default in (None, (), "")
            default = "" if none else f" [{_plain(field.default)}]"
            lines.append(f"  {_key(name, field) + '=':18}{field.description or ''}{default}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def run_command_line(
    main: Callable[[Sequence[str]], int], synopsis: str, reword: Callable[[str], str] = str
) -> NoReturn:
    """Run `main(argv)`; print a UserError in one line and exit with status 2; 130 when interrupted.

    One line also says that a file server does not find a file for longer than `look_again` tries (ESTALE).
    `reword` changes the help text and the error before they are printed.
    """
    argv = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
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
        print(
            f"error: {error.filename or 'a file'}: the file server does not find it now ({error.strerror}); "
            "give the same command again",
            file=sys.stderr,
        )
        status = EXIT_USER_ERROR
    raise SystemExit(status)
