"""Mistakes a user can mend, told in one line."""

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
"""Exit status of every command line for a mistake in what it was given."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


class UserError(Exception):
    """What was wrong, where, and what to do about it, in one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion to append to an error: `; did you mean 'x'?`, or a list of what is known."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown section 'trasnfer'; did you mean 'transfer'?`"""
    return UserError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")
