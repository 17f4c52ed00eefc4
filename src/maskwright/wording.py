"""Phrases for messages and reports, and texts of others in one line or in a cell of a table."""

import re
from typing import TYPE_CHECKING

from maskwright.types import InputSpec, Size

if TYPE_CHECKING:
    import torch


def counted(count: int, noun: str, plural: str = "s") -> str:
    """A count with its noun: `1 step`, `2 steps`. plural: the ending for any count but 1."""
    return f"{count} {noun}{'' if count == 1 else plural}"


def duration(seconds: float) -> str:
    """A time to the precision that an estimate has: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def device_name(device: "torch.device") -> str:
    """Where is computed: `cuda:0 (NVIDIA A100)`, `cpu (2 threads)`."""
    import torch

    threads = counted(torch.get_num_threads(), "thread")
    return f"{device} ({torch.cuda.get_device_name(device) if device.type == 'cuda' else threads})"


def of_size(size: Size) -> str:
    """An image's size: `48x64 (height x width)`."""
    return f"{size[0]}x{size[1]} (height x width)"


def of_input(spec: InputSpec) -> str:
    """How images are resized to a network's input, in words."""
    ways = {
        "short_edge": f"short edge {spec.size} pixels",
        "stretch": f"stretched to {spec.size} x {spec.size} pixels",
        "letterbox": f"fitted into {spec.size} x {spec.size} pixels and padded",
    }
    phrases = [ways[spec.fit]]
    if spec.fit == "short_edge" and spec.max_size is not None:
        phrases.append(f"long edge at most {spec.max_size}")
    if spec.enlarge is not None:
        phrases.append(f"enlarged at most {spec.enlarge:g} times")
    if not spec.shrink:
        phrases.append("never shrunk to the short edge")
    return f"{', '.join(phrases)}; {spec.channels}"


def one_line(text: str) -> str:
    """The text with line breaks and other control characters as spaces: a name to draw or print."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def message_of(error: BaseException) -> str:
    """The message of an error in one line, or its type if it has none."""
    return " ".join(one_line(str(error)).split()) or type(error).__name__


def cell(text: str) -> str:
    """A text for a cell of a CSV file: behind an apostrophe where a spreadsheet would take it for a formula."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r\n]", text) else text


def cell_text(text: str) -> str:
    """The text that `cell` made this of."""
    return text[1:] if re.match(r"'+[=+\-@\t\r\n]", text) else text
