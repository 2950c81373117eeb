"""`GET /`: a page to try the reward model on, which asks this server alone.

A browser shows no key when it opens an address, so the page is open and holds no data: who has no
key learns that a server of this kind is here, whether it asks for a key and whether it has a
policy; no name, no limit and no score. The key that a reader types goes with the page's requests
and is kept nowhere.

Texts get into the page as text alone. Should one ever get further, the browser refuses to run it
or to send anything elsewhere: the policy lets only the page's own script and style through, by
their hashes, and lets no string become markup (W3C: CSP 3, Trusted Types).
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from prm.serve.desk import Desk


def router(desk: Desk, *, keyed: bool) -> APIRouter:
    """The route; the page asks for a key where the server is `keyed`."""
    routes = APIRouter()
    text, headers = page(policy=desk.policy is not None, keyed=keyed)

    @routes.get("/", include_in_schema=False)
    async def playground() -> HTMLResponse:
        return HTMLResponse(text, headers=headers)

    return routes


def page(*, policy: bool, keyed: bool) -> tuple[str, dict[str, str]]:
    """The page, and the headers that go with it."""
    style, script = (_read(f"playground.{kind}") for kind in ("css", "js"))
    text = Template(_read("playground.html")).substitute(
        key="yes" if keyed else "no", policy="yes" if policy else "no", style=style, script=script
    )
    rules = (
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "img-src data:",  # the icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return text, {
        "Content-Security-Policy": "; ".join(rules),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",  # a server that was started otherwise has another page
    }


def _read(name: str) -> str:
    return resources.files("prm.serve").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
