"""The page at `/`: one file that needs nothing beside it, and what the browser may do with it."""

import base64
import hashlib
from importlib.resources import files


def page() -> tuple[bytes, dict[str, str]]:
    """The HTML, and its headers: the browser runs this script and style alone, and asks this server alone."""
    here = files("maskwright.serving")
    text, style, script = ((here / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    content = text.replace("{style}", style).replace("{script}", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return content.encode(), headers


def _hash(text: str) -> str:
    """The source of an inline element in a policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
