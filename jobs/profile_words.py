"""Settings of a profile on the command line: `profile.partition=short profile.sbatch.nice=100`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caltech_exp.arguments import split_arguments
from caltech_exp.errors import UserError, shown
from caltech_exp.plain_yaml import load_plain, read_yaml

PREFIX = "profile."
NULL_IS_A_VALUE = ("cpu_jobs.cpus_per_task", "cpu_jobs.mem_gb")
"""Settings that have a default and may be none all the same."""


@dataclass(frozen=True)
class ProfileWords:
    """The words as they were given, and what each sets, as it would stand in a profile's file."""

    words: tuple[str, ...] = ()
    settings: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        """` with profile.partition=short`, nothing without words."""
        return f" with {' '.join(self.words)}" if self.words else ""

    def change(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a profile's file, changed by the words in their order; null leaves a setting out."""
        changed = dict(values)
        for setting in self.settings:
            changed = _changed(changed, setting)
        return changed


NO_WORDS = ProfileWords()


def take_profile_words(argv: Sequence[str]) -> tuple[ProfileWords, list[str]]:
    """What `argv` says of the profile, and its other words. Values are YAML, as in a profile's file.

    Raises UserError for a word that is no `profile.setting=value`. Whether there is such a setting is not asked
    here: the profile checks it with all others.
    """
    mine = [word for word in argv if word.startswith(PREFIX)]
    for word in mine:
        if "=" not in word:
            raise UserError(f"{shown(word)!r} has no value; write {shown(word)}=VALUE, or =null to leave it out")
    given = split_arguments(mine, [word.partition("=")[0] for word in mine])
    words = ProfileWords(
        tuple(f"{key}={shown(text)}" for key, text in given.items()),
        tuple(_setting(key, text) for key, text in given.items()),
    )
    return words, [word for word in argv if word not in mine]


def _setting(key: str, text: str) -> dict[str, Any]:
    """`profile.sbatch.nice`, `100` -> `{"sbatch": {"nice": 100}}`"""
    names = key.removeprefix(PREFIX).split(".")
    if not all(names):
        raise UserError(f"{shown(key)}= names no setting of a profile; write it as in profile.partition=short")
    value = read_yaml(text, f"{shown(key)}={shown(text)}", load_plain)
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _changed(values: Mapping[str, Any], setting: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Of a mapping within, only what is named changes."""
    changed = dict(values)
    for name, new in setting.items():
        old = changed.get(name)
        if new is None and f"{place}{name}" not in NULL_IS_A_VALUE:
            changed.pop(name, None)
        elif isinstance(new, Mapping):
            changed[name] = _changed(old if isinstance(old, Mapping) else {}, new, f"{place}{name}.")
        else:
            changed[name] = new
    return changed
