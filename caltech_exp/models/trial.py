"""Try a custom network before its runs are queued: forward and backward with two images, in a limited process.

`python -m caltech_exp.models.trial` reads a Trial as JSON from standard input. Only this process imports torch.
"""

import ast
import base64
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable

from pydantic import ValidationError

from caltech_exp.bootstrap import own_command
from caltech_exp.child_environment import python_environment, start_problem
from caltech_exp.cli import UserError, shown
from caltech_exp.config import PIN, RunConfig
from caltech_exp.models.custom import CustomNetwork
from caltech_exp.records import StrictRecord

SECONDS = 60
MEMORY = 4 * 2**30
"""Bytes that the process may allocate (RLIMIT_DATA), torch's own among them."""
MEMORY_ERRORS = ("DefaultCPUAllocator", "Cannot allocate memory")
GPU_ERRORS = ("CUDA", "NVIDIA")
"""Texts in errors of a network that needs a GPU, which this machine may lack."""


class Trial(StrictRecord):
    """What to try: configurations of one network, the content of its file in base64, and the limits."""

    configs: tuple[RunConfig, ...]
    content: str
    seconds: int
    memory: int


class Answer(StrictRecord):
    """What went wrong, empty if nothing did, and where in the file; line 0 if the trial itself is to blame."""

    problem: str = ""
    line: int = 0


def try_network(network: CustomNetwork, configs: Iterable[RunConfig], *, python_is_same: bool = True) -> str:
    """A line that says why the network of these runs could not be tried; empty if it works.

    Raises UserError with file and line if it does not work.

    python_is_same  whether the tasks run this Python, so that a module that is missing here is missing there
    """
    variants = {(c.freeze, c.frozen_batchnorm, c.engine, c.classes): c for c in configs}
    content = base64.b64encode(network.content).decode()
    answer = _ask(Trial(configs=tuple(variants.values()), content=content, seconds=SECONDS, memory=MEMORY))
    if answer.line and not (ModuleNotFoundError.__name__ in answer.problem and not python_is_same):
        raise UserError(f"{network.source} line {answer.line}: {answer.problem}")
    untried = f"network {network.function} is submitted untried: its trial with two images"
    return f"{untried} {'misses a module' if answer.line else answer.problem}" if answer.problem else ""


def _ask(trial: Trial) -> Answer:
    try:
        process = subprocess.Popen(
            own_command("caltech_exp.models.trial"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**python_environment(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # so that it can be ended with all that it starts
        )
    except OSError as error:
        return Answer(problem=f"fails: {start_problem(sys.executable, error)}")
    try:
        output, _ = process.communicate(trial.model_dump_json(), trial.seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return Answer(problem=f"took more than {trial.seconds} s")
        raise
    last, status = (output.strip().splitlines() or [""])[-1], process.returncode
    try:
        return Answer.model_validate_json(last)
    except ValidationError:  # torch cannot be imported, or the process died
        reason = signal.Signals(-status).name if status < 0 else shown(last, 200) or f"status {status}"
        return Answer(problem=f"ended early ({reason})")


def _try_all(trial: Trial) -> Answer:
    """In the process: limit it, then try each configuration."""
    for kind, limit in ((resource.RLIMIT_CPU, trial.seconds), (resource.RLIMIT_DATA, trial.memory)):
        soft, hard = resource.getrlimit(kind)
        if soft == resource.RLIM_INFINITY or soft > limit:
            resource.setrlimit(kind, (limit, hard))
    content = base64.b64decode(trial.content)
    for config in trial.configs:
        try:
            _try(config, content)
        except (Exception, SystemExit) as error:
            return _answer(error, config, content, trial.memory)
    return Answer()


def _try(config: RunConfig, content: bytes) -> None:
    import torch

    from caltech_exp.models import networks

    net = networks.build_random(config, content)
    networks.freeze_all_but(net, networks.trained_parameters(net, config))
    layout = torch.channels_last if config.engine == "fast" else torch.contiguous_format
    images = torch.rand(2, 3, 224, 224).to(memory_format=layout)
    labels = torch.tensor([0, config.classes - 1])
    net = net.to(memory_format=layout)
    outputs = networks.check_output_shape(net.train()(images), labels, config)
    torch.nn.functional.cross_entropy(outputs.float(), labels).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        networks.check_output_shape(net.eval()(images), labels, config)


def _answer(error: BaseException, config: RunConfig, content: bytes, memory: int) -> Answer:
    """The error in a line, with its place in the network's file: where it was raised, or else the function."""
    path, _, function = config.model.partition(PIN)[0].rpartition(":")
    if isinstance(error, UserError) and error.__cause__:
        error = error.__cause__
    text = shown(str(error).strip().partition("\n")[0], 400)
    if isinstance(error, MemoryError) or any(words in text for words in MEMORY_ERRORS):
        return Answer(problem=f"needs more than {memory / 2**30:.3g} GiB of memory")
    if any(words in text for words in GPU_ERRORS):
        return Answer(problem=f"needs a GPU ({text})")
    lines = [node.lineno for node in ast.parse(content).body if getattr(node, "name", "") == function]
    if isinstance(error, UserError):
        return Answer(problem=text.replace(config.model, function), line=lines[-1])
    lines += [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    problem = f"network {function} fails with two images: {type(error).__name__}: {text}; correct it"
    return Answer(problem=problem, line=lines[-1])


if __name__ == "__main__":
    answer = _try_all(Trial.model_validate_json(sys.stdin.read()))
    print(f"\n{answer.model_dump_json()}", flush=True)
    os._exit(0)  # whatever the network has started
