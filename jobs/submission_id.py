"""What a submission is called: when it was made, and four digits that no other of that second has by chance."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

ID = re.compile(r"(\d{8}T\d{6})-([0-9a-f]{4})", re.ASCII)
TIME = "%Y%m%dT%H%M%S"
DIGITS = 0x10000
FIRST, NEXT = DIGITS * 15 // 16, 256
"""From how many numbers the first of a second is drawn, and each after it: that leaves room for more of them."""


def submission_id(now: datetime, others: Iterable[str]) -> str:
    """`20260131T235959-1a2b`, which sorts after the study's `others`: the latest submission counts.

    Also where several are of one second, or the clock of another login node was ahead.
    """
    when, number = now.strftime(TIME), secrets.randbelow(FIRST)
    last = ID.fullmatch(max(filter(ID.fullmatch, others), default=""))
    if last and last[1] >= when:
        when, number = last[1], int(last[2], 16) + 1 + secrets.randbelow(NEXT)
        if number >= DIGITS:
            when, number = (datetime.strptime(when, TIME) + timedelta(seconds=1)).strftime(TIME), 0
    return f"{when}-{number:04x}"
