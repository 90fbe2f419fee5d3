"""Which seeds a study runs: how many, or which."""

from caltech_exp.errors import UserError

MAX_SEEDS = 100_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` -> (0, 1, 2); `0,1,5` -> (0, 1, 5); `7,` -> (7,). Raises UserError for anything else."""
    takes = "seeds takes how many, from 1 (seeds=3), or a list of seeds (seeds=0,1,2, or seeds=7, for one)"
    parts = [part.strip() for part in text.split(",")]
    listed = len(parts) > 1
    if listed and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise UserError(f"seeds={text}: {takes}")
    numbers = tuple(int(part) for part in parts)
    if listed:
        if len(set(numbers)) != len(numbers):
            raise UserError(f"seeds={text}: a seed stands there twice; {takes}")
        if max(numbers) >= 2**32:
            raise UserError(f"seeds={text}: a seed is below 2**32; {takes}")
        return numbers
    if not 1 <= numbers[0] <= MAX_SEEDS:
        raise UserError(f"seeds={text}: {takes}, at most {MAX_SEEDS}")
    return tuple(range(numbers[0]))
