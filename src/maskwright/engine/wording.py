"""Words of the sentences that a run tells a person."""


def counted(count: int, noun: str, plural: str = "s") -> str:
    """`1 step`, `2 steps`: a count with its noun, which has the ending wherever there is not one."""
    return f"{count} {noun}{'' if count == 1 else plural}"
