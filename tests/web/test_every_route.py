"""No route can be forgotten: these tests ask the application itself which routes it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.conftest import API, ROOT, Web

READING = {"GET", "HEAD", "OPTIONS"}


def routes(app: Any, prefix: str = ROOT) -> Iterator[tuple[str, str]]:
    """Every (method, path) of an application and of what is mounted in it, with 1 for each parameter."""
    for route in app.routes:
        path = prefix + re.sub(r"{[^}]*}", "1", route.path)
        if getattr(route, "methods", None):
            yield from ((method, path) for method in sorted(route.methods))
        else:  # a mount: static files or another application
            yield "GET", f"{path}/anything"
            yield from routes(route, path) if getattr(route, "routes", None) else ()


def all_routes(web: Web) -> list[tuple[str, str]]:
    found = list(routes(web.inner))
    assert len(found) > 10
    return found


def test_nothing_is_answered_without_a_login(web: Web) -> None:
    for method, path in [*all_routes(web), ("GET", f"{ROOT}/no/such/path"), ("POST", f"{ROOT}/no/such/path")]:
        answer = web.ask(method, path, user=None)
        assert answer.status_code == 401, (method, path)
        assert method == "HEAD" or answer.json()["code"] == "not_authenticated"


def test_a_wrong_token_is_no_login(web: Web) -> None:
    for method, path in all_routes(web):
        answer = web.ask(method, path, user=None, headers={"Authorization": "Bearer not.a.token"})
        assert answer.status_code in (401, 403), (method, path)


def test_a_viewer_changes_nothing(web: Web) -> None:
    writes = [(method, path) for method, path in all_routes(web) if method not in READING]
    assert len(writes) >= 6
    with web.new_audit_lines() as lines:
        for method, path in [*writes, ("DELETE", f"{ROOT}/v1/api/files/1"), ("POST", f"{ROOT}/no/such/path")]:
            answer = web.ask(method, path, user="viewer", json={})
            assert answer.status_code == 403, (method, path)
            assert answer.json()["code"] == "forbidden"
    assert lines == []


def test_every_write_leaves_a_line_with_the_user(web: Web) -> None:
    for method, path in all_routes(web):
        if method in READING:
            continue
        with web.new_audit_lines() as lines:
            web.ask(method, path, json={}, params={"wait_seconds": 0})
        assert [line["owner"] for line in lines] == ["admin"], (method, path)
        assert lines[0]["dag_id"] == "image_proxy_pipeline"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 5000,
        b'{"dag_id": ["x"]}',
        b'{"dag_id": "another", "run_id": "another", "dag_run_id": "another", "task_id": "another"}',
    ],
    ids=lambda content: content[:20],
)
def test_a_body_does_not_say_where_its_audit_line_belongs(web: Web, content: bytes) -> None:
    """Nor does one that cannot be read fail the request: this route has no body."""
    path = f"{API}/files/{web.add()}/create-image-proxy"
    places = {"run_id": "another", "task_id": "another", "logical_date": "24:99", "wait_seconds": "0"}
    answer = web.ask("POST", path, content=content, params=places, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text
    line = web.audit()[0]
    assert (line["event"], line["owner"]) == ("image_proxy.create_proxy", "admin")
    assert (line["dag_id"], line["run_id"], line["task_id"]) == ("image_proxy_pipeline", None, None)


def test_every_answer_carries_the_headers(web: Web) -> None:
    for user in ("admin", None):
        for method, path in all_routes(web):
            headers = web.ask(method, path, user=user).headers
            policy = headers["content-security-policy"]
            assert "unsafe" not in policy, path
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'self'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            if "/v1/" in path:
                assert headers["cache-control"] == "no-store"


def test_the_document_lists_every_route_of_the_api_with_its_security(web: Web) -> None:
    document = web.ask("GET", f"{ROOT}/v1/openapi.json").json()
    listed = {
        (method.upper(), re.sub(r"{[^}]*}", "1", path)) for path, ops in document["paths"].items() for method in ops
    }
    served = {
        (method, path.removeprefix(ROOT)) for method, path in all_routes(web) if "/v1/api/" in path and method != "HEAD"
    }
    assert listed == served
    assert document["servers"] == [{"url": ROOT}]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation["security"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
