"""Words of the sentences that a run tells a person."""

import pytest

from maskwright.types import InputSpec
from maskwright.wording import cell, cell_text, counted, of_input, one_line


@pytest.mark.parametrize(("count", "said"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps")])
def test_counted(count: int, said: str) -> None:
    assert counted(count, "step") == said


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (InputSpec(), "short edge 800 pixels, long edge at most 1333; RGB"),
        (InputSpec(size=550, fit="stretch", channels="BGR"), "stretched to 550 x 550 pixels; BGR"),
        (
            InputSpec(size=96, fit="letterbox", enlarge=2.0),
            "fitted into 96 x 96 pixels and padded, enlarged at most 2 times; RGB",
        ),
        (
            InputSpec(max_size=None, shrink=False),
            "short edge 800 pixels, never shrunk to the short edge; RGB",
        ),
    ],
)
def test_of_input(spec: InputSpec, said: str) -> None:
    assert of_input(spec) == said


def test_one_line() -> None:
    assert one_line("a\nb\r\n\x1b[31mc\u2028d") == "a b [31mc d"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-2", "\tx", "\rx", "\n=1", "'=1", "''-x"])
def test_texts_that_a_spreadsheet_would_run(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell_text(cell(text)) == text


@pytest.mark.parametrize("text", ["", "nucleus", "a=b", "'s", "1.5", "'quoted'"])
def test_other_texts_stay(text: str) -> None:
    assert cell(text) == cell_text(text) == text
