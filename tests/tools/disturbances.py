"""What a cluster does to a study, done on purpose.

Each takes the scene and dice, and returns what it did in a few words. It returns None if there was nothing to
disturb, and is tried again later. Those that go through a user's commands are in faulty_commands.py.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import CHECKOUT
from tests.tools.scene import OTHER_HOST, Scene, restore, slurm

Disturbance = Callable[[Scene, random.Random], str | None]

TESTBED = Path(os.environ.get("CALTECH_EXP_TESTBED", "/var/tmp/caltech-exp-testbed"))

EXPIRED_SECONDS = 100
"""A stop after which a process no longer knows that it holds its run (lease.EXPIRE_SECONDS is 90)."""
TAKEN_OVER_SECONDS = 330
"""The longest stop that ends when another process has taken the run (lease.TAKE_OVER_SECONDS is 180)."""

# Of a task's process.


def kill_task(scene: Scene, dice: random.Random) -> str | None:
    """SIGKILL of a task's process."""
    return _signal(scene, dice, signal.SIGKILL)


def terminate_task(scene: Scene, dice: random.Random) -> str | None:
    """SIGTERM of a task's process."""
    return _signal(scene, dice, signal.SIGTERM)


def freeze(scene: Scene, dice: random.Random) -> str | None:
    """A task's process stands still for some seconds."""
    pids = sorted(scene.training())
    return "for 3 s" if pids and scene.stop(dice.choice(pids), 3) else None


def suspend(scene: Scene, dice: random.Random) -> str | None:
    """A task's process stands still until its lease has expired; nobody else comes."""
    if scene.stopped or not (pids := sorted(scene.training())):
        return None
    return f"for {EXPIRED_SECONDS} s" if scene.stop(dice.choice(pids), EXPIRED_SECONDS) else None


def suspend_past_take_over(scene: Scene, dice: random.Random) -> str | None:
    """The same on another machine, and the task is requeued: the new one takes the run, then the old one wakes."""
    survivors = scene.survivors("elsewhere")
    if not survivors or scene.stopped:
        if not scene.stopped:
            scene.arrange("elsewhere")
        return None
    pid, job = dice.choice(sorted(survivors.items()))
    if not scene.stop(pid, TAKEN_OVER_SECONDS):
        return None
    _succeeds("scontrol", "requeue", job)

    def wake_once_succeeded() -> None:
        if scene.watcher.is_succeeded(pid):
            scene.after(3, lambda: scene.go_on(pid))
        elif pid in scene.stopped:
            scene.after(2, wake_once_succeeded)

    scene.after(2, wake_once_succeeded)
    return f"on {OTHER_HOST}, and {job} requeued"


def requeue_beside_itself(scene: Scene, dice: random.Random) -> str | None:
    """A task is requeued and its former process lives on, on the same machine."""
    return _requeue_survivor(scene, dice, "outlive")


def requeue_elsewhere_beside_itself(scene: Scene, dice: random.Random) -> str | None:
    """The same, and the former process is on another machine."""
    return _requeue_survivor(scene, dice, "elsewhere")


def lose_survivor(scene: Scene, dice: random.Random) -> str | None:
    """A task is requeued, its former process lives on for some seconds, and then is killed too."""
    survivors = scene.survivors("outlive")
    if not survivors:
        scene.arrange("outlive")
        return None
    pid, job = dice.choice(sorted(survivors.items()))
    if not _succeeds("scontrol", "requeue", job):
        return None
    scene.after(dice.uniform(1, 12), lambda: scene.kill(pid))
    return f"{job}, and its former process killed later"


def _requeue_survivor(scene: Scene, dice: random.Random, way: str) -> str | None:
    survivors = scene.survivors(way)
    if not survivors:
        scene.arrange(way)
        return None
    _, job = dice.choice(sorted(survivors.items()))
    return job if _succeeds("scontrol", "requeue", job) else None


def jump_clock(scene: Scene, dice: random.Random) -> str | None:
    """The clock of a task's machine jumps while it trains, and with it the time stamps that it writes."""
    for path in sorted((scene.folder / "used").glob("clock.*.time")):
        job = path.name.split(".")[1]
        if path not in scene.jumped and job in scene.training().values():
            seconds = dice.choice((-10800, 10800, -2 * 86400, 2 * 86400, -30, 200))
            path.with_suffix(".new").write_text(f"{seconds}\n")
            path.with_suffix(".new").rename(path)
            scene.jumped.add(path)
            return f"{job}, {seconds} s"
    scene.arrange("clock")
    return None


def stale_task(scene: Scene, dice: random.Random) -> str | None:
    """ESTALE answers some of a task's system calls on the study's files (a file server that came back)."""
    for path in (scene.folder / "used").glob("strace.*"):
        if (calls := path.read_text().count("ESTALE")) > 0:
            path.unlink()
            return f"{calls} calls of {path.name.split('.')[1]} so far"
    first, step = dice.randint(1, 12), dice.randint(7, 40)
    scene.arrange("estale", "\n".join(stale_calls(scene, f"{first}+{step}")) + "\n")
    return None


def stale_calls(scene: Scene, when: str) -> list[str]:
    """Options of strace under which such calls on the study's files fail."""
    runs = scene.runs
    names = ("result.json", "progress.json", "failure.json", "checkpoint.pt")
    files = [runs, runs / "study.json", runs / "submissions", *runs.glob("submissions/*/manifest.json")]
    for name in scene.names:
        folder = runs / name
        leases = [f"lease.{number:06}.json" for number in range(1, 30)]
        files += [folder, *(folder / file for file in (*names, *leases))]
    paths = [word for path in files for word in ("-P", str(path))]
    return ["-f", "-qq", *paths, "-e", "trace=%file", "-e", f"inject=%file:error=ESTALE:when={when}"]


# Of Slurm's.


def requeue(scene: Scene, dice: random.Random) -> str | None:
    """`scontrol requeue`, as an administrator's or a preemption's."""
    return _slurm(scene, dice, "scontrol", "requeue")


def usr2(scene: Scene, dice: random.Random) -> str | None:
    """The signal that Slurm sends before preemption and the time limit."""
    return _slurm(scene, dice, "scancel", "--signal=USR2")


def cancel(scene: Scene, dice: random.Random) -> str | None:
    """`scancel` of a task; the study is submitted again later."""
    return _slurm(scene, dice, "scancel")


def time_limit(scene: Scene, dice: random.Random) -> str | None:
    """A running task comes near its time limit; queued again, it has a longer one."""
    job = _slurm(scene, dice, "scontrol", "update", "TimeLimit=1", "JobId={}")
    if job:
        scene.after(40, lambda: _succeeds("scontrol", "update", f"JobId={job}", "TimeLimit=60"))
    return job


def kill_slurmd(_scene: Scene, _dice: random.Random) -> str | None:
    """slurmd dies and comes back."""
    return restart("slurmd")


def kill_slurmctld(_scene: Scene, _dice: random.Random) -> str | None:
    """slurmctld dies and comes back."""
    return restart("slurmctld")


# Of the disk's and the snapshots'.


def fill_disk(scene: Scene, dice: random.Random) -> str | None:
    """The study's disk is full to the last block for some seconds, while tasks train."""
    filler = scene.runs.parent / "filler"
    if filler.exists() or not scene.training():
        return None
    fill(filler)
    seconds = dice.uniform(2, 10)
    scene.after(seconds, lambda: filler.unlink(missing_ok=True))
    return f"for {seconds:.0f} s"


def purge_snapshot(scene: Scene, dice: random.Random) -> str | None:
    """Files of the snapshot go, or come, while tasks wait, and the checkout is edited: its code must not run."""
    folders = [path.parent for path in scene.runs.glob("sources/**/caltech_exp")]
    running = scene.running()
    if scene.edited or not folders or not running:
        return None
    folder = dice.choice(sorted(folders))
    scene.edited = True
    plant = f"\nopen({str(scene.folder / 'foreign')!r}, 'a').write(__file__ + chr(10))\n"
    module = dice.choice(
        (
            "caltech_exp/training/loop.py",
            "caltech_exp/__init__.py",
            "caltech_exp/submission/tasks.py",
            "caltech_exp/training/checkpoint.py",
        )
    )
    for path in (
        "caltech_exp/training/loop.py",
        "caltech_exp/training/checkpoint.py",
        "caltech_exp/__init__.py",
        "caltech_exp/submission/tasks.py",
    ):
        with (scene.folder / "live" / path).open("a") as file:
            file.write(plant)
    damage = dice.choice(("file", "all", "edit", "sitecustomize", "pyc", "module", "stamp"))
    _damage(folder, damage, module, plant)
    _succeeds("scontrol", "requeue", dice.choice(running))
    scene.after(12, lambda: _restore(scene))
    return f"{damage}, {module}"


def _damage(folder: Path, damage: str, module: str, plant: str) -> None:
    with contextlib.suppress(OSError):  # gone already, by the disturbance before
        if damage == "file":
            (folder / module).unlink()
        elif damage == "all":
            subprocess.run(["rm", "-rf", str(folder)], check=True)
        elif damage == "stamp":
            (folder / "snapshot.json").unlink()
        elif damage == "edit":
            content = (folder / module).read_text()
            (folder / module).unlink()
            (folder / module).write_text(content + plant)
        elif damage == "sitecustomize":
            (folder / "sitecustomize.py").write_text(plant)
        elif damage == "module":  # one that the code imports, and that comes before the library's
            (folder / "submitit.py").write_text(plant)
        else:
            _plant_compiled(folder / module, plant)


def _plant_compiled(source: Path, plant: str) -> None:
    """What Python would take for the compiled file of `source`, whatever that holds."""
    script = (
        "import importlib._bootstrap_external as b, importlib.util, pathlib, sys\n"
        "source, code = sys.argv[1], pathlib.Path(sys.argv[1]).read_text() + sys.argv[2]\n"
        "path = pathlib.Path(importlib.util.cache_from_source(source)); path.parent.mkdir(exist_ok=True)\n"
        "data = b._code_to_hash_pyc(compile(code, source, 'exec'), b'12345678', checked=False)\n"
        "path.unlink(missing_ok=True); path.write_bytes(data)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(source), plant], check=True, capture_output=True)


def _restore(scene: Scene) -> None:
    """The user's checkout as it was; what was planted in snapshots stays for the user to remove."""
    restore(scene.folder)
    scene.edited = False


def fill(path: Path) -> None:
    """A file that takes what is left of its disk, to the last block."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"0"):
            pass


# How it is done.


def _signal(scene: Scene, dice: random.Random, number: int) -> str | None:
    tasks = sorted((pid, job) for pid, job in scene.tasks().items() if pid not in scene.stopped)
    if not tasks:
        return None
    pid, job = dice.choice(tasks)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return job
    return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _slurm(scene: Scene, dice: random.Random, *command: str) -> str | None:
    """A command about one of the running jobs, whose id comes where `{}` stands, or last."""
    running = scene.running()
    if not running:
        return None
    job = dice.choice(running)
    words = [word.format(job) for word in command]
    return job if _succeeds(*words, *([] if words != list(command) else [job])) else None


def _succeeds(*command: str) -> bool:
    """The job may have ended since it was chosen, or Slurm may be busy with it: then nothing was disturbed."""
    try:
        return subprocess.run(command, capture_output=True, timeout=15, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def restart(daemon: str) -> str:
    """SIGKILL, and a start a second later."""
    kill_daemon(daemon)
    time.sleep(1)
    start_daemons()
    return daemon


def kill_daemon(daemon: str) -> None:
    _kill(int((TESTBED / "run" / f"{daemon}.pid").read_text()))


def start_daemons() -> None:
    """Start what is missing. The script waits for a node that takes jobs, and one may have been drained."""
    script = ["bash", str(CHECKOUT / "slurm/testbed/start.sh")]
    for _ in range(3):
        if subprocess.run(script, check=False, capture_output=True, timeout=180).returncode == 0:
            return
        resume_node()
    subprocess.run(script, check=True, timeout=180)


def administer(scene: Scene) -> None:
    """What is an administrator's to do: a controller that came back with an older state may start a job twice, and
    then drains the node; a job that has ended meanwhile it shows as running for minutes."""
    resume_node()
    for job in scene.running_without_process():
        _succeeds("scancel", job)


def resume_node() -> None:
    if any(word in slurm("sinfo", "--noheader", "--format=%T") for word in ("drain", "down")):
        _succeeds("scontrol", "update", "NodeName=gpu01", "State=RESUME")
