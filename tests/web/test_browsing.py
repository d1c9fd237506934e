"""Pages of images, one image, savings, failures and pictures, as REST answers them."""

from __future__ import annotations

import time
from typing import Any

from include.catalog.browse_records import NewPreview
from tests.catalog.making import new_proxy, record_proxy
from tests.web.conftest import BUCKET, Web
from tests.web.test_single import Run

HOSTILE = "<script>alert(1)</script>\"'&.jpg"


def test_following_the_cursor_brings_every_image_once(web: Web) -> None:
    ids = {web.add(filename=f"cursor {number}.jpg") for number in range(5)}
    seen: list[int] = []
    after = None
    while True:
        page = web.get("/files", params={"name": "cursor", "limit": 2, **({"after": after} if after else {})}).json()
        seen += [file["file_id"] for file in page["files"]]
        after = page["next_cursor"]
        if after is None:
            break
    assert sorted(seen) == sorted(ids)


def test_one_image_has_its_whole_history(web: Web) -> None:
    file_id = web.add(filename=HOSTILE)
    Run(web, "history-1", file_id).proxy(file_id)
    detail = web.get(f"/files/{file_id}").json()
    assert detail["file"]["filename"] == HOSTILE  # as it is: whoever shows it escapes it
    assert [run["dag_run_id"] for run in detail["runs"]] == ["history-1"]
    assert [proxy["status"] for proxy in detail["proxies"]] == ["proxied"]
    assert [attempt["stage"] for attempt in detail["attempts"]] == ["proxy"]
    assert detail["cost"]["cost_usd"] is None


def test_images_of_a_run_are_found_by_its_job(web: Web) -> None:
    file_id, _other = web.add(), web.add()
    Run(web, "of-a-run", file_id).proxy(file_id)
    found = web.get("/files", params={"job_id": "of-a-run"}).json()["files"]
    assert [file["file_id"] for file in found] == [file_id]


def test_savings_and_failures_are_seen_as_soon_as_they_are_there(web: Web) -> None:
    good, bad = web.add(format="bmp"), web.add()
    before = web.get("/savings", params={"by": "format"}).json()
    run = Run(web, "figures-1", good, bad)
    run.proxy(good)
    run.fail(bad, "rare_code")
    reasons = {reason["code"]: reason for reason in web.get("/failures/reasons").json()}
    assert reasons["rare_code"]["images"] == 1
    failures = web.get("/failures", params={"code": "rare_code"}).json()["failures"]
    assert [(failure["file_id"], failure["message"]) for failure in failures] == [(bad, "the file ends early")]
    assert "bmp" not in {row["group"] for row in before["groups"]}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = web.get("/savings", params={"by": "format"}).json()
        found = [row for row in now["groups"] if row["group"] == "bmp"]
        if found:
            break
    assert (found[0]["images"], found[0]["bytes_saved"]) == (1, 1_800_000)
    assert now["total"]["images"] == before["total"]["images"] + 1


def picture(web: Web, key: str, content: bytes) -> str:
    web.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return f"s3://{BUCKET}/{key}"


def test_the_proxy_s_bytes_come_from_s3_as_a_picture_and_nothing_else(web: Web) -> None:
    file_id = web.add()
    run = Run(web, "bytes-1", file_id)
    content = b"\xff\xd8 a proxy, and <script> in it" * 5000
    uri = picture(web, "made/one.jpg", content)
    record_proxy(web.catalog, run.run_id, run.claim(), file_id, _made(uri))
    answer = web.get(f"/files/{file_id}/proxy", user="viewer")
    assert (answer.status_code, answer.content == content) == (200, True)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_preview_is_served_for_the_present_content_only(web: Web) -> None:
    file_id = web.add()
    assert web.get(f"/files/{file_id}/preview").json()["code"] == "no_preview"
    uri = picture(web, "previews/one.webp", b"a preview")
    web.catalog.record_preview(file_id, "content-1", NewPreview(uri, "webp", 300, 200, 9))
    answer = web.get(f"/files/{file_id}/preview")
    assert (answer.content, answer.headers["content-type"]) == (b"a preview", "image/webp")
    web.catalog.record_preview(file_id, "content-2", NewPreview(uri, "webp", 300, 200, 9))
    assert web.get(f"/files/{file_id}/preview").status_code == 200


def test_what_s3_has_not_is_a_problem_without_addresses(web: Web) -> None:
    gone, nowhere, page = web.add(), web.add(), web.add()
    assert web.get(f"/files/{gone}/proxy").json()["code"] == "no_proxy"
    for file_id, uri, format in (
        (gone, f"s3://{BUCKET}/not/there.jpg", "jpeg"),
        (nowhere, "file:///etc/passwd", "jpeg"),
        (page, f"s3://{BUCKET}/page.html", "html"),
    ):
        run = Run(web, f"gone-{file_id}", file_id)
        record_proxy(web.catalog, run.run_id, run.claim(), file_id, _made(uri, format=format))
        answer = web.get(f"/files/{file_id}/proxy")
        assert answer.status_code == 404, uri
        assert BUCKET not in answer.text
        assert answer.json()["code"] in ("source_missing", "unsupported_uri", "not_a_picture")


def _made(uri: str, **changes: Any) -> Any:
    return new_proxy(uri=uri, **changes)
