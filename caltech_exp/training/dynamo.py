"""torch's compiler, torch._dynamo, is loaded only by a task that compiles something.

torchvision imports it for a function that nothing here calls, and torch's optimizers for marks that only a
compiler reads. That took 1.3 s of processor at the start of every task, as much as torch itself. Until more is
needed, a module stands in its place that does what it does in eager mode: nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

NAMES = ("torch._dynamo", "torch._dynamo.utils")


class PostponedModule(ModuleType):
    """Stands for a module of NAMES; anything that it does not have loads the real ones in its place."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and (self.__name__, name) != (NAMES[0], "__path__"):
            raise AttributeError(name)  # the import system and inspect ask every module for such names
        return getattr(load_dynamo(self.__name__), name)


def postpone_dynamo() -> None:
    """Put the modules in place, between the imports of torch and torchvision, unless the real ones are loaded."""
    torch = sys.modules["torch"]
    if any(name in sys.modules for name in NAMES):
        return
    dynamo, utils = map(PostponedModule, NAMES)
    vars(dynamo).update(graph_break=_graph_break, disable=_disable)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules.update(zip(NAMES, (dynamo, utils), strict=True))
    vars(torch)["_dynamo"] = dynamo


def load_dynamo(name: str = NAMES[0]) -> ModuleType:
    """Load the real modules and return one of them."""
    for postponed in NAMES:
        if isinstance(sys.modules.get(postponed), PostponedModule):
            del sys.modules[postponed]
    vars(sys.modules["torch"]).pop("_dynamo", None)
    return importlib.import_module(name)


def _graph_break(_message: str = "") -> None:
    """End a compiled graph: there is none."""


def _disable(function: Any = None, *options: Any, **named_options: Any) -> Any:
    """Keep a function from being compiled: it is not."""
    return function if callable(function) else load_dynamo().disable(function, *options, **named_options)


def _is_compile_supported(device_type: str) -> Any:
    return load_dynamo(NAMES[1]).is_compile_supported(device_type)
