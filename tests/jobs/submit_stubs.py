"""jobs/submit.py with tasks that train nothing: `python -m tests.jobs.submit_stubs <words of submit.py>`."""

from caltech_exp.arguments import run_command_line
from jobs import submission, submit
from jobs.options import USAGE
from tests.jobs.stub_task import StubTask

if __name__ == "__main__":
    submission.TrainTask = StubTask  # type: ignore[attr-defined]
    run_command_line(submit.main, USAGE)
