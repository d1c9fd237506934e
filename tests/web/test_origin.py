"""A login cookie is sent by whatever page a browser shows; so a write with it must say that it is ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import API, Web

OURS = "http://testserver"
WRITE = f"{API}/files/999999/create-image-proxy"  # 404 once it is let through


def with_cookie(web: Web, **headers: str) -> Any:
    web.client.cookies.clear()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.client.post(WRITE, headers={"Cookie": f"_token={web.tokens['admin']}", **names})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {"origin": "http://testserver:8080"},
        {"origin": OURS, "sec_fetch_site": "cross-site"},
        {"origin": OURS, "sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"authorization": "Basic YWRtaW46YWRtaW4="},
    ],
)
def test_a_write_from_elsewhere_is_refused(web: Web, headers: dict[str, str]) -> None:
    answer = with_cookie(web, **headers)
    assert answer.status_code == 403
    assert answer.json()["code"] in ("foreign_origin", "no_origin")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": OURS},
        {"sec_fetch_site": "same-origin"},
        {"origin": OURS, "sec_fetch_site": "same-origin"},
        # Behind a proxy that ends TLS this server sees http, and the browser says that it is the same origin.
        {"origin": "https://testserver", "sec_fetch_site": "same-origin"},
    ],
)
def test_a_write_from_our_pages_is_let_through(web: Web, headers: dict[str, str]) -> None:
    assert with_cookie(web, **headers).json()["code"] == "unknown_file"


def test_a_token_does_not_excuse_a_foreign_page(web: Web) -> None:
    """Where a server adds the token itself (everybody an administrator), only the origin tells pages apart."""
    assert web.ask("POST", WRITE, headers={"Origin": "http://evil.example"}).status_code == 403
    assert web.ask("POST", WRITE).json()["code"] == "unknown_file"


def test_reading_with_the_cookie_needs_no_origin(web: Web) -> None:
    web.client.cookies.clear()
    answer = web.client.get(f"{API}/files", headers={"Cookie": f"_token={web.tokens['viewer']}"})
    assert answer.status_code == 200
