"""Open runs in arrays."""

from caltech_exp.catalog import THE_REPORT
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.submission import make_arrays


def plan(*sections: str) -> list[PlannedRun]:
    return expand(THE_REPORT.select(sections), (0, 1, 2), StudySettings())


def test_one_array_per_section_named_for_section_and_study() -> None:
    arrays = make_arrays(plan("scratch", "augmentation"), "my study ü", 1, 1001)
    assert [(array.name, len(array.tasks)) for array in arrays] == [
        ("scratch.my-study-", 39),
        ("augmentation.my-study-", 12),
    ]


def test_arrays_are_split_at_the_clusters_limit_and_lose_nothing() -> None:
    runs = plan("scratch")
    arrays = make_arrays(runs, "s", 1, 10)
    assert [len(array.tasks) for array in arrays] == [10, 10, 10, 9]
    assert [run for array in arrays for task in array.tasks for run in task] == runs


def test_several_runs_per_task() -> None:
    (array,) = make_arrays(plan("augmentation"), "s", 5, None)
    assert [len(task) for task in array.tasks] == [5, 5, 2]
