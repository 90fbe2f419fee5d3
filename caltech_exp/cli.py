"""Command lines of `key=value` words, and one-line errors for the user's mistakes."""

import atexit
import difflib
import errno
import io
import os
import re
import reprlib
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TextIO, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
VALUE = "VALUE"
"""In a hint, the place of the value that the user typed."""
OTHER_NAMES = Path(__file__).with_name("other_names.toml")
LEAVE = "leave it out"
NO = ("0", "false", "no", "none", "null", "off")
HELP = re.compile("(--)?help=")
BOOLEANS = (*NO, "1", "true", "yes", "on")
DECORATION = "-+~\u2013\u2014 "  # of GNU options, Hydra overrides, and words copied from a page
Hint = str | Callable[[str], str]  # what to write, or what makes that of the value
NUMBER_ERRORS = {
    "int_parsing": "input should be a whole number",
    "int_from_float": "input should be a whole number",
    "float_parsing": "input should be a number",
}
MESSAGES = {**NUMBER_ERRORS, "bool_parsing": "input should be true or false"}
"""An error's type -> what to say instead of pydantic's message."""

# Files hold words of any length, and any number of them; comparing takes the product of all lengths.
LONGEST_WORD = 100
MOST_COMPARED = 1000
MOST_LISTED = 30  # names in an error

_REPR = reprlib.Repr()
_REPR.maxlevel = 2


class UserError(Exception):
    """A mistake of the user: one line that says what is wrong, where, and what to do.

    Messages quote files and commands, so characters that cannot be printed are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def one_line(text: str) -> str:
    """The text with line ends, terminal codes and invalid bytes as escapes."""
    if text.isprintable():  # the usual case, and status asks for thousands of runs
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class PrintableStream:
    """Writes to a stream of text, each line by `one_line`: a file that is quoted cannot command the terminal.

    rich, which writes terminal codes of its own, asks for `rich_proxied_file`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write("".join(map(_printable, re.split("([\n\t])", text))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def _printable(text: str) -> str:
    return text if text in ("\n", "\t") else one_line(text)


def shown(value: object, most: int = 100) -> str:
    """A value as an error quotes it, cut after `most` characters."""
    text = value if isinstance(value, str) else _REPR.repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def closest(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most similar to `name`; None if no name is similar, or `name` is a long text."""
    if len(name) > LONGEST_WORD:
        return None
    words = [word for word in islice(known, MOST_COMPARED) if len(word) <= LONGEST_WORD]
    return next(iter(difflib.get_close_matches(name.lower(), words, n=1, cutoff=cutoff)), None)


def suggestion(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no known name is similar."""
    match = closest(name, known)
    return f"; did you mean {match!r}?" if match else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error: `; did you mean 'x'?`, or a list of the known names."""
    names = list(known)
    separator = "; " if any("," in name for name in names) else ", "
    more = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
    listed = separator.join(shown(name) for name in names[:MOST_LISTED])
    return suggestion(name, names) or f"; known: {listed}{more}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown section 'trasnfer'; did you mean 'transfer'?`"""
    return UserError(f"unknown {kind} {shown(name)!r}{did_you_mean(name, known)}")


def plain_words(argv: Sequence[str], known: Collection[str], flags: Collection[str] = ()) -> list[str]:
    """GNU options as words of ours: `--dry-run`, `--section transfer` -> `dry_run=true`, `section=transfer`.

    Words that are not exactly a key, and keys without a value, stay as they are.
    """
    words, left = [], list(argv)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        following = left[0] if left else "="
        is_value = not following.startswith(("-", "=")) and following.partition("=")[0] not in known
        if not name.startswith("--") or key not in known:
            words.append(word)
        elif equals:
            words.append(f"{key}={value}")
        elif key in flags and following.lower() not in BOOLEANS:
            words.append(f"{key}=true")
        else:
            words.append(f"{key}={left.pop(0)}" if is_value else word)
    return words


def split_arguments(
    argv: Sequence[str],
    known: Sequence[str],
    flags: Collection[str] = (),
    hints: Mapping[str, Hint] = MappingProxyType({}),
    command: str = "",
) -> dict[str, str]:
    """`["lr=1e-2", "runs=my runs"]` -> `{"lr": "1e-2", "runs": "my runs"}`; values stay as they are typed.

    flags    the known keys that take true or false
    hints    words that users mistake for keys -> what to write instead (Hint), in which VALUE is replaced
    command  whose section of other_names.toml has such words too
    """
    values: dict[str, str] = {}
    vocabulary = Vocabulary(known, flags, hints, command)
    argv = plain_words(argv, known, flags)
    for place, argument in enumerate(argv):
        key, equals, value = argument.partition("=")
        if not equals:
            correction = vocabulary.correct_word(argv, place)
            raise UserError(f"{shown(argument)!r} is not of the form key=value{correction}")
        if key not in known:
            raise UserError(f"unknown key {shown(key)!r}{vocabulary.correct(key, value.strip())}")
        if key in values:
            both = f", or write {key}={shown(values[key])},{shown(value)}" if key in ("section", "table") else ""
            raise UserError(f"{key} is given twice, {shown(values[key])!r} and {shown(value)!r}; keep one{both}")
        if not value:
            following = _value_after(argv, place)
            remedy = f"write {key}={shown(following)}" if following else f"give one, or leave {key}= out"
            raise UserError(f"{key}= has no value; {remedy}")
        if value.startswith("="):
            raise UserError(f"{shown(argument)!r} has two =; write {key}={shown(value.lstrip('= '))}")
        if "\0" in value or not _is_utf8(value):
            raise UserError(f"{key}={shown(value)} is not valid UTF-8 text; use another name")
        values[key] = value
    return values


def _value_after(argv: Sequence[str], place: int) -> str:
    """The value of a word whose `=` or value was typed as a word of its own; empty if there is none."""
    following = " ".join(argv[place + 1 : place + 3]) if argv[place + 1 : place + 2] == ["="] else ""
    following = following or next(iter(argv[place + 1 : place + 2]), "")
    is_value = following.startswith("=") or ("=" not in following and not following.startswith("-"))
    return following.lstrip("= ") if is_value else ""


def other_names(section: str) -> dict[str, str]:
    """Other tools' names -> what to write instead, by a section of other_names.toml."""
    import tomllib  # only a mistake needs it

    corrections = tomllib.loads(OTHER_NAMES.read_text(encoding="utf-8")).get(section, {})
    return {word: correction for correction, words in corrections.items() for word in words.split()}


@dataclass(frozen=True)
class Vocabulary:
    """The keys of a command, its flags, and the words that users mistake for keys (split_arguments)."""

    known: Sequence[str]
    flags: Collection[str]
    hints: Mapping[str, Hint]
    command: str

    @cached_property
    def corrections(self) -> dict[str, Hint]:
        """Word -> what to write instead: the hints, and other tools' names for the known keys."""
        common = {
            word: correction
            for word, correction in other_names("all").items()
            if correction.partition("=")[0] in self.known or correction.startswith(LEAVE)
        }
        return {**common, **self.hints, **other_names(self.command)}

    def correct_word(self, argv: Sequence[str], place: int) -> str:
        """The end of an error on a word without `=`."""
        word, following = argv[place], _value_after(argv, place)
        key, colon, value = word.partition(":")
        if colon and key in self.known:
            return f"; write {key}={shown(value)}"
        if place and argv[place - 1].endswith(","):
            return f"; write {shown(argv[place - 1] + word)} without the space"
        if os.path.isdir(word):  # noqa: PTH112 (never fails)
            if "first" in self.known:
                return f"; write first={shown(word)} second={shown(following) or '...'}"
            if "runs" in self.known and word not in self.corrections:
                return f"; write runs={shown(word)}"
        if word.endswith((".yaml", ".yml")) and "study" in self.known:
            return f"; write study={shown(word)}"
        return self.correct(word, following, is_alone=True)

    def correct(self, word: str, value: str, *, is_alone: bool = False) -> str:
        """The end of an error on `word=value`; of a word that stands alone, `value` is the word after it."""
        name = word.strip(DECORATION).replace("-", "_")
        if not name and word:
            return "; leave it out"
        for candidate in dict.fromkeys((name, name.lower(), name.lower().rpartition(".")[2])):
            if candidate in self.known:
                is_switch = is_alone and candidate in self.flags
                return f"; write {candidate}={'true' if is_switch else shown(value) or '...'}"
            if candidate in self.corrections:
                return self._apply(candidate, "" if is_alone and candidate in self.flags else value)
        has_value = {word for word, hint in self.corrections.items() if not isinstance(hint, str) or VALUE in hint}
        similar = {word for word in has_value if len(word) > 2}
        match = closest(name, {*self.known, *similar}) or ""
        if match in self.corrections and match not in self.known:
            return self._apply(match, value)
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", word) and not match:
            return "; write it before the command if it is an environment variable"
        if not match and len(self.known) > MOST_LISTED:
            return "; --help lists the keys"
        return did_you_mean(name, self.known)

    def _apply(self, word: str, value: str) -> str:
        hint = self.corrections[word]
        yes, _, no = (hint if isinstance(hint, str) else hint(value)).partition("|")
        correction = (no if no and value.lower() in NO else yes).replace(VALUE, shown(value) or "...")
        return f"; {correction}" if correction.startswith(LEAVE) else f"; write {correction}"


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
    return UserError(f"{prefix}{key}={shown(value)}: {_complaint(first, takes)}{_number(first, key)}")


def _complaint(error: Any, takes: str) -> str:
    """What is wrong with a value, and what its setting takes; names that `takes` lists are not listed again."""
    value = error["input"]
    if error["type"] == "literal_error":
        options = re.findall(r"'(.*?)'", error["ctx"]["expected"])
        match = options[0] if len(options) == 1 else closest(str(value), options, 0.7)
        lists = all(option in takes for option in options)
        hint = f"; did you mean {match!r}?" if match else "" if lists else did_you_mean("", options)
        return f"there is no such value{hint}{takes}"
    message = MESSAGES.get(error["type"]) or reason(error)
    return f"{message[:1].lower()}{message[1:]}{takes}"


def _number(error: Any, key: str) -> str:
    """The end of an error on a number with a comma."""
    value = error["input"]
    if error["type"] not in NUMBER_ERRORS or not isinstance(value, str) or "," not in value:
        return ""
    is_decimal = error["type"] == "float_parsing" and re.fullmatch("[0-9]+,[0-9]+", value)
    decimal = f"write {key}={value.replace(',', '.')}"
    return f"; {decimal if is_decimal else 'give one value'}"


def reason(error: Any) -> str:
    """What one of pydantic's errors says, without pydantic's own beginning."""
    return str(error["msg"]).removeprefix("Value error, ")


def _takes(field: FieldInfo | None) -> str:
    return f" ({field.description})" if field is not None and field.description else ""


class Options(BaseModel):
    """The options of a command, as in `StatusOptions`: one field an option, whose description is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)
Command = TypeVar("Command", bound=Options)


def parse(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate `values` as `model`; an error names the setting and what it takes."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model.model_fields) from None


def read_options(model: type[Command], argv: Sequence[str]) -> Command:
    """A command line whose keys are the model's fields."""
    keys = [key_of(name, field) for name, field in model.model_fields.items()]
    command = model.__name__.removesuffix("Options").lower()
    return parse(model, split_arguments(argv, keys, flags(model), command=command))


def flags(model: type[BaseModel]) -> list[str]:
    """The model's keys that take true or false."""
    return [key_of(name, field) for name, field in model.model_fields.items() if field.annotation is bool]


def key_of(name: str, field: FieldInfo) -> str:
    """The field's name on the command line: its alias, if Python reserves the name."""
    return field.alias or name


@contextmanager
def on_interrupt(text: str) -> Iterator[None]:
    """Ctrl-C in the block ends the command with the line `interrupted; text`."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*(interrupt.args or [text])) from None


def run_command_line(
    main: Callable[[Sequence[str]], int], synopsis: str, reword: Callable[[str], str] = str
) -> NoReturn:
    """Run `main(argv)` and exit with its status; a UserError or a stale file (ESTALE) is printed in one line.

    So is Ctrl-C, with the KeyboardInterrupt's text if the command gave it one.

    reword  changes the help text and the error before they are printed
    """
    argv, describe = sys.argv[1:], getattr(synopsis, "describe", None)  # usage.Usage has it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal may not be able to show a path
    sys.stdout, sys.stderr = (cast(TextIO, PrintableStream(stream)) for stream in (sys.stdout, sys.stderr))
    status = 0
    try:
        if any(word in ("-h", "--help", "help") for word in argv):
            print(reword(synopsis))
        elif describe and (
            topics := [word.partition("=")[2] for word in argv if word.startswith(("help=", "--help="))]
        ):
            print(reword("\n".join(map(describe, topics))))
        else:
            status = main(argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {reword(str(error))}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, lambda *_: None)  # a second one would end in a traceback
        print("; ".join(["interrupted", *map(reword, interrupt.args)]), file=sys.stderr)
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
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Python's own end takes a moment too
    raise SystemExit(status)
