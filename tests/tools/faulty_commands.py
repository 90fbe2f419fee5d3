"""The disturbances that go through a user's commands.

What sbatch and squeue say at other sites, whose jobs are in the queue, which processes are seen, what time it is.
"""

import contextlib
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path

from tests.tools.disturbances import Disturbance, fill, kill_daemon, stale_calls, start_daemons
from tests.tools.scene import BrokenPromiseError, Scene, as_second_user, require_no_traceback, slurm
from tests.tools.testbed import until

ENDINGS = (0, 1, 2, 130)
"""Exit statuses of submit.py."""

SBATCH = {
    "bare id": r"""sed -E 's/^Submitted batch job ([0-9]+).*/\1/' <<<"$said" """,
    "id;cluster": r"""sed -E 's/^Submitted batch job ([0-9]+).*/\1;testbed/' <<<"$said" """,
    "banner": 'echo "*** Welcome, 2 messages ***"; echo "$said"; echo "Charged to project 77"',
    "slow": 'sleep 9; echo "$said"',
    "dies": "kill -9 $PPID",
    "timed out": 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1',
    "fails with an id": 'echo "$said"; echo "sbatch: error: accounting hook failed" >&2; exit 1',
    "silent": "true",
}
"""What happens after sbatch has queued the jobs and said so in $said."""

SQUEUE = {
    "timed out": 'echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 0',
    "header only": 'echo "JOBID|STATE"; echo "slurm_load_jobs error: Unable to contact slurm controller" >&2',
    "fails": 'echo "slurm_load_jobs error: Zero Bytes were transmitted or received" >&2; exit 1',
    "hangs": "sleep 60",
}


def wrapped_sbatch(kind: str) -> Disturbance:
    """A disturbance: a submission through such an sbatch."""

    def disturb(scene: Scene, dice: random.Random) -> str | None:
        if not _has_open_run(scene, dice):
            return None
        called = scene.folder / "called"
        called.unlink(missing_ok=True)
        script = f'said=$({shutil.which("sbatch")} "$@") || exit $?\ntouch {called}\n{SBATCH[kind]}'
        done = scene.submit(PATH=_path_with(scene.folder, "sbatch", script))
        if not called.exists():
            return None
        _check(done, -9 if kind == "dies" else 0)
        return _shown(done)

    disturb.__name__ = f"sbatch: {kind}"
    return disturb


def squeue_without_answer(scene: Scene, dice: random.Random) -> str | None:
    """A submission while squeue does not answer; an empty answer with an error is none."""
    if not scene.jobs():
        return None
    kind = dice.choice(sorted(SQUEUE))
    before = set(scene.jobs())
    path = _path_with(scene.folder, "squeue", SQUEUE[kind])
    done = scene.submit(PATH=path)
    _check(done)
    new = set(scene.jobs()) - before
    if new:
        raise BrokenPromiseError(f"squeue: {kind}, and {sorted(new)} were queued: {done.stdout}")
    return f"{kind}: {_shown(done)}"


def stranger(scene: Scene, dice: random.Random) -> str | None:
    """Another user's jobs of the same name, with a copy of the comment of one of the study's, or a line break."""
    lines = slurm("squeue", "--noheader", "--array", "--user=root", "--format=%j|%k").splitlines()
    own = sorted({line for line in lines if "|caltech_exp " in line})
    if not own:
        return None
    name, _, comment = dice.choice(own).partition("|")
    comment = dice.choice((comment, comment, f"{comment}\n12_0|RUNNING|None|{name}|{comment}", "a\nb|c", ""))
    command = [
        "sbatch", "--hold", "--array=0-3", f"--job-name={name}", f"--comment={comment}", "--mem=50",
        "--output=/dev/null", "--chdir=/", "--wrap=sleep 1",
    ]  # fmt: skip
    subprocess.run([*as_second_user(), *command], check=True, capture_output=True, timeout=60)
    done = scene.submit()
    _check(done)
    return f"{comment!r}: {_shown(done)}"


def rival_without_view(scene: Scene, dice: random.Random) -> str | None:
    """Another user, to whom /proc hides the holder (hidepid), comes to train a run that is being trained."""
    holders = scene.watcher.holding()
    open_runs = sorted(
        {name for (name, _), (pid, *_) in list(scene.watcher.holders.items()) if pid in holders}
        - set(scene.results())
    )
    if not open_runs:
        return None
    folder = scene.runs / dice.choice(open_runs)
    with contextlib.suppress(OSError):
        folder.chmod(0o777)
    # One that takes the run does as a task does: it looks whether it is finished, and gives it back.
    script = (
        "import sys, pathlib; from caltech_exp.study.lease import acquire; "
        "from caltech_exp.study.run_status import remove_after_result; folder = pathlib.Path(sys.argv[1]); "
        "lease = acquire(folder, 'rival'); "
        "lease and lease.release(); (folder / 'result.json').exists() and remove_after_result(folder)"
    )
    command = [str(scene.folder / "venv/bin/python"), "-c", script, str(folder)]
    hidden = ["sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh", *as_second_user(), *command]
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", *hidden],
        stdout=subprocess.DEVNULL,
        stderr=(scene.folder / "rivals.log").open("ab"),
    )
    scene.after(25, lambda: _end(process))
    return folder.name


def second_user_looks(scene: Scene, _dice: random.Random) -> str | None:
    """Another user, to whom /proc hides the holders, asks how the study stands while it is trained."""
    if not scene.training():
        return None
    command = [*scene.command("status.py"), f"runs={scene.runs}"]
    hidden = ["sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh", *as_second_user(), *command]
    variables = {**os.environ, "HOME": "/nonexistent"}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", *hidden],
        capture_output=True, text=True, timeout=120, check=False, env=variables,
    )  # fmt: skip
    _check(done)
    return _shown(done)


def submit_at_another_time(scene: Scene, dice: random.Random) -> str | None:
    """The clock of the machine that submits is wrong."""
    if not _has_open_run(scene, dice):
        return None
    seconds = dice.choice((-400 * 86400, -10800, -61, 61, 10800, 400 * 86400))
    (scene.folder / "offset").write_text(f"{seconds}\n")
    done = scene.submit(CLOCK_OFFSET=str(scene.folder / "offset"), LD_PRELOAD=str(scene.folder / "clock.so"))
    _check(done)
    return f"{seconds} s: {_shown(done)}"


def stale_submission(scene: Scene, dice: random.Random) -> str | None:
    """ESTALE answers a system call on the study's files of a command that submits."""
    _has_open_run(scene, dice)
    first = dice.randint(1, 25)
    when = dice.choice((f"{first}", f"{first}..{first + 3}", f"{first}+{dice.randint(5, 20)}"))
    done = scene.submit(before=("strace", "-o", "/dev/null", *stale_calls(scene, when)))
    _check(done)
    return f"at {when}: {_shown(done)}"


def submit_to_a_full_disk(scene: Scene, dice: random.Random) -> str | None:
    """A submission while the study's disk is full to the last block."""
    filler = scene.runs.parent / "filler"
    if filler.exists() or not _has_open_run(scene, dice):
        return None
    fill(filler)
    try:
        done = scene.submit()
    finally:
        filler.unlink()
    _check(done)
    return _shown(done)


def submit_while_slurmctld_is_away(scene: Scene, dice: random.Random) -> str | None:
    """A submission while slurmctld is dead, and while it comes back."""
    _has_open_run(scene, dice)
    kill_daemon("slurmctld")
    started = threading.Timer(dice.uniform(0, 3), start_daemons)
    started.start()
    try:
        done = scene.submit()
    finally:
        started.join()
    _check(done)
    return _shown(done)


def submit_twice_at_once(scene: Scene, dice: random.Random) -> str | None:
    """Two submissions of the same study at the same time."""
    if not _has_open_run(scene, dice):
        return None
    second: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: second.append(scene.submit()))
    thread.start()
    first = scene.submit()
    thread.join()
    for done in (first, *second):
        _check(done)
    return f"{_shown(first)} | {_shown(second[0]) if second else 'a traceback'}"


def _has_open_run(scene: Scene, dice: random.Random) -> bool:
    """Whether there is something to submit: a run without a result that is not in the queue, after a scancel."""
    left = set(scene.names) - set(scene.results())
    if left - scene.queued_runs().keys():
        return True
    jobs = scene.jobs()
    if not jobs:
        return False
    job = dice.choice(jobs)
    slurm("scancel", job)
    with contextlib.suppress(AssertionError):
        until(lambda: job not in scene.jobs(), 20)
    return bool(set(scene.names) - set(scene.results()) - scene.queued_runs().keys())


def _path_with(folder: Path, command: str, script: str) -> str:
    """A PATH on which `command` is the given shell script, and nothing else is changed."""
    stub = folder / "stubs" / command / command
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text(f"#!/bin/bash\n{script}\n")
    stub.chmod(0o755)
    return f"{stub.parent}{os.pathsep}{os.environ['PATH']}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _check(done: subprocess.CompletedProcess[str], *further: int) -> None:
    """Raises BrokenPromiseError for an end of a command that is none of its own, or more than a line of error."""
    if done.returncode not in (*ENDINGS, *further):
        raise BrokenPromiseError(f"a command ends with status {done.returncode}: {done.stderr}")
    require_no_traceback(done)
    if done.returncode == 2 and len(done.stderr.strip().splitlines()) != 1:
        raise BrokenPromiseError(f"a command explains in more or less than one line: {done.stderr}")


def _shown(done: subprocess.CompletedProcess[str]) -> str:
    """Its status and its last line."""
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return f"{done.returncode}, {lines[-1][:160] if lines else ''}"
