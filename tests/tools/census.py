"""Count the modules and lines of the package, and hold its rules: `make census`.

Prints every module by room with its lines, then each broken rule with its place; exit status 1 if there is one.
`caltech_exp/reporting` is counted by itself.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("caltech_exp", "jobs", "reports")
LEFT_OUT = "reports/reproduction"
PACKAGE, REPORTING = "caltech_exp", "caltech_exp/reporting"
SCRIPTS = ("caltech_exp/commands", "jobs", "reports")
MOST_EXCEPTIONS = 8
MOST_POSITIONAL = 5
PRIVATE_NAMES = frozenset({
    "Damaged", "Found", "Holder", "Keeper", "Need", "Outlook", "Paces", "Packed", "PackPlace", "Parts", "Position",
    "Sign", "Standing", "Wanted", "Work", "adopt", "execute", "look", "said", "standing", "strays", "told",
})  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """What the package may measure.

    exceptions  module -> why it may be shorter or longer than the others
    """

    modules: int = 75
    total_lines: int = 11_000
    shortest: int = 50
    longest: int = 450
    exceptions: Mapping[str, str] = field(default_factory=dict)


# What holds today: lower the numbers as the package shrinks.
BOUNDS = {
    PACKAGE: Bounds(
        modules=87,
        total_lines=20_650,
        exceptions={
            "caltech_exp/executors/task_process.py": "runs in a process of its own, before other imports",
            "caltech_exp/submission/report_job.py": "short by nature: when a submission has a report job",
        },
    ),
    REPORTING: Bounds(modules=35, total_lines=6_740),
}


@dataclass(frozen=True)
class Module:
    """A Python file; `path` is relative to the checkout."""

    path: str
    text: str

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def room(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def is_counted(self) -> bool:
        """Whether the bounds of a module's length hold: not for `__init__.py` and the commands."""
        return not self.path.endswith("__init__.py") and self.room not in SCRIPTS


def read_modules(checkout: Path) -> list[Module]:
    paths = sorted(path for folder in FOLDERS for path in (checkout / folder).rglob("*.py"))
    names = [path.relative_to(checkout).as_posix() for path in paths]
    return [
        Module(name, path.read_text(encoding="utf-8"))
        for name, path in zip(names, paths, strict=True)
        if not name.startswith(f"{LEFT_OUT}/")
    ]


def table(modules: list[Module]) -> str:
    """Each room with its modules, and the totals."""
    lines = []
    for room, members in groupby(sorted(modules, key=lambda module: module.room), key=lambda module: module.room):
        group = list(members)
        lines.append(f"{room}/  {len(group)} modules, {sum(module.lines for module in group):,} lines")
        lines += [f"{module.lines:6,}  {module.path.rpartition('/')[2]}" for module in group]
    for part, bounded in split_parts(modules).items():
        counted = sum(module.is_counted for module in bounded)
        total = sum(module.lines for module in bounded)
        lines += ["", f"{part}: {counted} modules besides commands and __init__.py; {total:,} lines in all"]
    return "\n".join(lines)


def split_parts(modules: list[Module]) -> dict[str, list[Module]]:
    """The modules that are bounded together: those of the report, and all others."""
    parts: dict[str, list[Module]] = {PACKAGE: [], REPORTING: []}
    for module in modules:
        parts[REPORTING if module.path.startswith(f"{REPORTING}/") else PACKAGE].append(module)
    return parts


def violations(modules: list[Module], bounds: Mapping[str, Bounds] = BOUNDS) -> list[str]:
    """Every broken rule as `place: what is wrong`."""
    sizes = (_size_violations(part, members, bounds[part]) for part, members in split_parts(modules).items())
    return [*chain.from_iterable(sizes), *(line for module in modules for line in _violations_in(module))]


def _size_violations(part: str, modules: list[Module], bounds: Bounds) -> Iterator[str]:
    counted = [module for module in modules if module.is_counted]
    if len(counted) > bounds.modules:
        yield f"{part}: {len(counted)} modules, at most {bounds.modules}"
    total = sum(module.lines for module in modules)
    if total > bounds.total_lines:
        yield f"{part}: {total:,} lines, at most {bounds.total_lines:,}"
    odd = {
        module.path: module.lines for module in counted if not bounds.shortest <= module.lines <= bounds.longest
    }
    for path, lines in odd.items():
        if path not in bounds.exceptions:
            yield f"{path}:1: {lines} lines, not {bounds.shortest} to {bounds.longest}"
    for path in bounds.exceptions:
        if path not in odd:
            yield f"{path}:1: named as an exception, and is none"
    if len(bounds.exceptions) > MOST_EXCEPTIONS:
        yield f"{part}: {len(bounds.exceptions)} exceptions, at most {MOST_EXCEPTIONS}"


def _violations_in(module: Module) -> Iterator[str]:
    tree = ast.parse(module.text, module.path)
    if not module.path.endswith("__init__.py") and _only_re_exports(tree):
        yield f"{module.path}:1: only re-exports"
    methods = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"{module.path}:{node.lineno}: star import"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = _positional(node, is_method=id(node) in methods)
            if count > MOST_POSITIONAL:
                yield (
                    f"{module.path}:{node.lineno}: {node.name} has {count} positional parameters, "
                    f"at most {MOST_POSITIONAL}"
                )
        for name in _names_bound(node):
            if name.lstrip("_") in PRIVATE_NAMES:
                yield f"{module.path}:{getattr(node, 'lineno', 1)}: the name {name}"


def _only_re_exports(tree: ast.Module) -> bool:
    """Whether a module imports and does nothing else; its docstring and `__all__` do not count."""
    body = [node for node in tree.body if not _is_constant(node) and not _is_all(node)]
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_all(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _positional(node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> int:
    """Positional parameters of a function, without `self` or `cls`."""
    count = len(node.args.posonlyargs) + len(node.args.args)
    is_static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    return count - 1 if is_method and not is_static else count


def _names_bound(node: ast.AST) -> Iterator[str]:
    """Names that the node gives to a class, function, argument, variable, attribute or import."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name


def main(checkout: Path = CHECKOUT, bounds: Mapping[str, Bounds] = BOUNDS) -> int:
    modules = read_modules(checkout)
    print(table(modules))
    broken = violations(modules, bounds)
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
