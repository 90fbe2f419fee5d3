"""Mistakes a user can mend, told in one line."""

import difflib
import reprlib
from collections.abc import Iterable

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
