"""Words of the sentences that a run tells a person."""

from maskwright.types import InputSpec


def counted(count: int, noun: str, plural: str = "s") -> str:
    """`1 step`, `2 steps`: a count with its noun, which has the ending wherever there is not one."""
    return f"{count} {noun}{'' if count == 1 else plural}"


def of_input(spec: InputSpec) -> str:
    """How images become a network's input."""
    ways = {
        "short_edge": f"short edge {spec.size} pixels",
        "stretch": f"stretched to {spec.size} x {spec.size} pixels",
        "letterbox": f"filled up to {spec.size} x {spec.size} pixels",
    }
    said = [ways[spec.fit]]
    if spec.fit == "short_edge" and spec.max_size is not None:
        said.append(f"long edge at most {spec.max_size}")
    if spec.enlarge is not None:
        said.append(f"enlarged at most {spec.enlarge:g} times")
    if not spec.shrink:
        said.append("not made smaller for the short edge")
    return f"{', '.join(said)}; {spec.channels}"
