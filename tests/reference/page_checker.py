"""What a report page consists of, and whether it is well formed and needs nothing beside it."""

import re
from html.parser import HTMLParser

EVIL = "<script>alert('1')</script>\"&ü/\x00\u2028名.png"

VOID = {"meta", "img", "br", "input", "link"}


class Checker(HTMLParser):
    """Notes what a page consists of; fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def checked(text: str) -> Checker:
    """The page's parts; asserts that it is well formed and asks for nothing outside itself."""
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.count("script") == checker.count("style") == 1
    for tag, attributes in checker.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), attributes
    assert "url(" not in text
    assert "@import" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().replace("finance", "")
    return checker
