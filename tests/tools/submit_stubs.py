"""jobs/submit.py with tasks that train nothing: `python -m tests.tools.submit_stubs <words of submit.py>`."""

from caltech_exp.cli import run_command_line
from caltech_exp.commands import submit
from caltech_exp.submission import launch
from tests.tools.stub_task import StubTask

if __name__ == "__main__":
    launch.TrainTask = StubTask  # type: ignore[attr-defined]
    run_command_line(submit.main, submit.USAGE)
