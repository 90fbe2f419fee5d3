"""A study's standing as plain text: for pipes, files and grep. A line per run says all that is known of it."""

from datetime import datetime, timedelta

from tabulate import tabulate

from caltech_exp.errors import one_line
from caltech_exp.plan import PlannedRun
from jobs.bar import LOOKS
from jobs.last_lines import last_lines
from jobs.standing import LISTED, WITHOUT_RESULT, Standing

NOT_KNOWN = "not known yet; it is once a run of each network has finished an epoch"


def as_text(now: Standing, *, failures: bool) -> str:
    """Runs by table and state, the runs in training and without a result, the expected end.

    failures  also the last lines of each run that failed or was lost
    """
    shown = [state for state in LOOKS if now.counts[state]]
    rows = [
        [f"{section}.{table}", *(counts[state] or "" for state in shown)]
        for (section, table), counts in now.tables.items()
        if set(counts) - {"pending"}
    ]
    idle = [f"{s}.{t}" for (s, t), counts in now.tables.items() if not set(counts) - {"pending"}]
    rows.append(["all runs, each once", *(now.counts[state] for state in shown)])
    parts = [f"study {now.folder}, {now.when:%Y-%m-%dT%H:%M:%SZ}"]
    if now.note:
        parts.append(unasked(now))
    parts.append(tabulate(rows, headers=("table", *shown), disable_numparse=False))
    if idle and len(rows) > 1:
        parts.append(f"nothing submitted of {', '.join(idle)}")
    running = [line_of(now, run) for run in now.in_state("running")]
    parts += ["\n".join(running)] if running else []
    bad = now.in_state(*WITHOUT_RESULT)
    lines = [
        line
        for run in now.in_state(*LISTED)
        for line in (line_of(now, run), *(last_lines(now, run) if failures else ()))
    ]
    parts += ["\n".join(lines)] if lines else []
    parts += [*end_lines(now)]
    if bad and not failures:
        parts.append(f"{len(bad)} without a result: failed=true shows why, submit.py retry=failed tries again")
    return "\n\n".join(parts)


def line_of(now: Standing, run: PlannedRun) -> str:
    """`failed 0123456789-s0 (scratch.lr=1e-2): <why> (log: ...)`, or the like for other states."""
    state = now.states[run.id]
    words = [state.detail or "no epoch done"]
    if run.id in now.outlook.ends:
        words.append(f"ends {clock(now, now.outlook.ends[run.id])}")
    log = now.logs.get(run.id)
    if log and not state.failure:  # a failure's detail names it
        words.append(f"log: {log}")
    return one_line(f"{state.state} {run.id} ({', '.join(run.serves)}): {', '.join(words)}")


def end_lines(now: Standing) -> list[str]:
    """When what is queued will have ended, what it waits for, what was not submitted.

    And why the images were not decoded first, if they were not, and how the report stands.
    """
    lines, ahead = [], now.outlook
    if now.open:
        how = f"{ahead.at_once} at a time, {'as now' if now.counts['running'] else 'once they start'}"
        end = NOT_KNOWN if ahead.left is None else f"{clock(now, ahead.left)}, in {duration(ahead.left)} ({how})"
        lines.append(f"expected end: {end}")
    lines += waiting_lines(now)
    if now.counts["pending"]:
        more = f", {duration(ahead.pending)} of computing in all" if ahead.pending is not None else ""
        lines.append(f"{now.counts['pending']:,} runs of the study were not submitted{more}")
    return [*lines, *filter(None, (now.unprepared, now.report))]


def waiting_lines(now: Standing) -> list[str]:
    """Slurm's reasons for what waits, and what keeps the job that goes before all others."""
    lines = []
    if now.reasons:
        told = sorted(now.reasons.items(), key=lambda each: (-each[1], each[0]))
        lines.append(one_line(f"waiting: {', '.join(f'{tasks:,} for {reason}' for reason, tasks in told)}"))
    first = now.preparation
    if first and first.state == "queued":
        lines.append(
            one_line(
                f"{first.name} (job {first.id}) waits for {first.reason}, and the runs for it; if it cannot "
                f"start, `scancel {first.id}`: the runs then decode the images themselves"
            )
        )
    elif first:
        lines.append(one_line(f"{first.name} (job {first.id}) decodes the images, and the runs wait for it"))
    return lines


def unasked(now: Standing) -> str:
    """A line for a standing that Slurm had no part in."""
    return f"the queue was not asked, so queued runs may be lost ones: {now.note}"


def clock(now: Standing, seconds: float) -> str:
    """`14:35` today, `2026-01-31 14:35` on another day, of this machine's clock."""
    here = now.when.astimezone()
    end = here + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == here.date() else f"{end:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24} h"


def at(moment: datetime) -> str:
    """The time of day of a moment, by this machine's clock."""
    return f"{moment.astimezone():%H:%M:%S}"
