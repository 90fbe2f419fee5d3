"""Networks and weights files that a study names, pinned to their content as it is now."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from caltech_exp.catalog import Section, Table
from caltech_exp.catalog.loader import custom_networks
from caltech_exp.cli import UserError, join_words
from caltech_exp.config import ABSENT, PIN
from caltech_exp.data.download import IMAGENET
from caltech_exp.files import user_path
from caltech_exp.models.custom import CustomNetwork, find_network
from caltech_exp.models.weights import pin, weights_paths
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import StudyFile, weights_files


def files_of(tables: Sequence[tuple[Section, Table]], replaced: Collection[str]) -> Collection[str]:
    """The networks and weights files that rows name, in their order, but for settings replaced in all of them."""
    configs = [row.config for _, table in tables for row in table.rows]
    names = [name for name in ("model", "weights") if name not in replaced]
    return dict.fromkeys(getattr(config, name) for config in configs for name in names)


def pin_study_file(
    path: Path, text: str, asked: Collection[str], folder: StudyFolder
) -> tuple[StudyFile, list[CustomNetwork]]:
    """A study file whose networks and weights files are pinned to their content.

    Those that are not asked for stay as they were last submitted, or ABSENT if they are missing.
    """
    study = folder.study()
    before = study.file if study and study.file and study.file.name == path.stem else None
    recorded = before.weights if before else {}
    own: list[CustomNetwork] = []

    def pin_network(name: str) -> str:
        own.append(find_network(name, path.parent, folder.path))
        return own[-1].model

    def pin_weights(name: str) -> str:
        try:
            return pin(name, path.parent, folder.path)
        except UserError as error:
            paths = weights_paths(name.partition(PIN)[0], path.parent)
            is_gone = not all(path.exists() for path in paths)
            if is_gone and ABSENT not in recorded.get(name, ABSENT):
                return recorded[name]
            raise UserError(f"{path.name}: {error}") from None

    networks = _pin_files(custom_networks(text, path.name), asked, before.networks if before else {}, pin_network)
    # Of a study that began before files were pinned, the first files stay unpinned: its runs keep their ids.
    unpinned = [name for name in before.weights_files if PIN not in name] if before else []
    catalog = StudyFile(name=path.stem, text=text).catalog
    names = weights_files(row.config for _, table in catalog.tables for row in table.rows)
    weights = _pin_files({name: name for name in names if name not in unpinned}, asked, recorded, pin_weights)
    return StudyFile(name=path.stem, text=text, networks=networks, weights=weights), own


def _pin_files(
    files: Mapping[str, str], asked: Collection[str], recorded: Mapping[str, str], pin_file: Callable[[str], str]
) -> dict[str, str]:
    """Name -> the file, pinned; one that is not asked for stays as it is on record, or is ABSENT."""
    pinned = {}
    for name, file in files.items():
        is_asked, on_record = file in asked, recorded.get(name, "")
        if not is_asked and on_record and ABSENT not in on_record:
            pinned[name] = on_record
            continue
        try:
            pinned[name] = pin_file(file)
        except UserError:
            if is_asked:
                raise
            digest = hashlib.sha256(file.encode()).hexdigest()
            pinned[name] = f"{file.partition(PIN)[0]}{PIN}{ABSENT}{digest[:32]}"
    return pinned


def pin_imagenet_weights(
    folder: str, used: Mapping[str, Sequence[str]], sections: Iterable[str], recorded: Mapping[str, str]
) -> dict[str, str]:
    """Network -> its weights in the folder, pinned. Networks that the runs do not use may be missing there.

    So may the folder, if all that the runs use is on record as pinned in it.

    used      network -> the section of each row that starts from its weights
    sections  all that the command asks for
    """
    root = user_path(folder, "imagenet_weights")
    if not root.is_dir():
        if not used and any(Path(file).parent == root.resolve() for file in recorded.values()):
            return {}
        kind = "it is a file; give the folder" if root.exists() else "there is no such folder; give one"
        names = join_words([f"{model}.pth" for model in used or recorded or IMAGENET])
        raise UserError(f"imagenet_weights={folder}: {kind} with {names}")
    if missing := [model for model in used if not (root / f"{model}.pth").exists()]:
        rows = [section for model in missing for section in used[model]]
        places = join_words(list(dict.fromkeys(rows)))
        count = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} of {places} would start"
        others = ",".join(section for section in dict.fromkeys(sections) if section not in rows)
        are, them = ("are", "them") if missing[1:] else ("is", "it")
        advice = f"put {them} there"
        advice += f", or submit section={others} alone" if others else ""
        names = join_words([f"{model}.pth" for model in missing])
        raise UserError(f"imagenet_weights={folder}: {names} {are} missing, from which {count}; {advice}")
    pinned = {}
    for model in IMAGENET:
        try:
            pinned[model] = pin(f"{model}.pth", root)
        except UserError:
            if model in used:
                raise
    return pinned
