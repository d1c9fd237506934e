"""The pages without a browser: who sees which buttons, what a wrong address answers, what a spreadsheet gets."""

from __future__ import annotations

import re

import pytest

from tests.catalog import making
from tests.web.conftest import ROOT, Web
from tests.web.test_single import Run

PAGES = f"{ROOT}/pages"
HTMX = {"HX-Request": "true"}


def page(web: Web, path: str, user: str = "admin", **more: object) -> str:
    answer = web.ask("GET", PAGES + path, user=user, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_a_viewer_sees_images_and_no_buttons_that_start_something(web: Web) -> None:
    file_id = web.add()
    assert "Create proxy" in page(web, "/")
    assert "hx-post" not in page(web, "/", user="viewer").split("<dialog", maxsplit=1)[0]
    assert "hx-post" not in page(web, f"/images/{file_id}", user="viewer")
    assert "hx-post" not in page(web, "/failures", user="viewer")


def test_htmx_gets_the_list_alone_and_follows_pages(web: Web) -> None:
    for _ in range(30):
        web.add(uploaded_at=making.FIRST_UPLOAD)
    first = page(web, "/?name=web-", headers=HTMX)
    assert "<html" not in first
    after = re.search(r"after=([^&\"]+)", first)
    assert after is not None
    second = page(web, f"/?name=web-&after={after[1]}", headers=HTMX)
    ids = [set(re.findall(r"card-(\d+)", text)) for text in (first, second)]
    assert len(ids[0]) == 24
    assert ids[1]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    "query",
    [
        "status=nonsense",
        "size=huge",
        "since=yesterday",
        "until=9999-12-31",
        "batch_id=x",
        "after=x",
        "name=%00",
        "name=" + "x" * 300,
    ],
)
def test_a_filter_that_the_form_does_not_offer_is_refused(web: Web, query: str) -> None:
    assert web.ask("GET", f"{PAGES}/?{query}").status_code == 422


def test_a_person_gets_a_page_where_a_program_gets_a_problem(web: Web) -> None:
    for user, status in (("admin", 404), (None, 401)):
        path = f"{PAGES}/images/999999"
        person = web.ask("GET", path, user=user, headers={"Accept": "text/html"})
        program = web.ask("GET", path, user=user)
        assert (person.status_code, program.status_code) == (status, status)
        assert person.headers["content-type"].startswith("text/html")
        assert person.headers["content-security-policy"] == program.headers["content-security-policy"]
        assert program.headers["content-type"] == "application/problem+json"


def test_the_tab_of_another_dags_run_says_so_and_escapes_its_name(web: Web) -> None:
    text = page(web, "/runs/%3Cscript%3E/some+run:x")
    assert "make no image proxies" in text
    assert "<script>" not in text.split("<main", maxsplit=1)[1]


def test_one_click_starts_a_run_for_one_image(web: Web) -> None:
    file_id = web.add()
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = web.ask("POST", f"{PAGES}/images/{file_id}/create-proxy", headers=headers)
    assert answer.status_code == 200
    assert "Making proxy" in answer.text
    newest = web.runs()[0]
    assert newest["conf"] == {"stages": ["proxy"], "file_ids": [file_id]}
    follow = re.search(r"card\?job_id=([^\"]+)", answer.text)
    assert follow is not None
    assert follow[1] == newest["dag_run_id"]
    again = web.ask("POST", f"{PAGES}/images/{file_id}/create-proxy", headers=headers)
    assert again.status_code == 409


def test_nothing_chosen_starts_nothing(web: Web) -> None:
    before = len(web.runs())
    for path in ("create-proxies", "analyse/quote"):
        assert web.ask("POST", f"{PAGES}/batch/{path}", data={}).status_code == 422
    assert len(web.runs()) == before


def test_a_quote_starts_nothing_and_names_the_price(web: Web) -> None:
    file_id, before = web.add(), len(web.runs())
    answer = web.ask("POST", f"{PAGES}/batch/analyse/quote", data={"file_ids": [file_id]})
    assert answer.status_code == 200
    assert re.search(r"Analyse for about \$0\.\d+", answer.text)
    assert len(web.runs()) == before


def test_a_spreadsheet_gets_no_formula(web: Web) -> None:
    making.process(web.catalog, "sheet", web.add(format="=cmd|calc!A0"))
    answer = web.ask("GET", f"{PAGES}/savings.csv", params={"by": "format"})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "'=cmd" in answer.text
    assert not re.search(r"(?m)^[\"]?=", answer.text)


def test_static_files_may_be_kept_by_their_version(web: Web) -> None:
    found = re.search(r'href="([^"]+app\.css\?v=\w+)"', page(web, "/"))
    assert found is not None
    answer = web.ask("GET", found[1])
    assert answer.headers["cache-control"].endswith("immutable")
    assert web.ask("GET", f"{PAGES}/static/..%2f__init__.py").status_code == 404
    assert web.ask("GET", f"{PAGES}/").headers["cache-control"] == "no-store"


def test_what_was_quoted_is_analysed_however_many_they_are(web: Web) -> None:
    """More than the thousand fields that a form may have."""
    web.catalog.register([making.image(f"many-{n:04}", uri=f"s3://pictures/many/{n}.jpg") for n in range(1001)])
    asked = {"everything": "true", "name": "many-"}
    quote = web.ask("POST", f"{PAGES}/batch/analyse/quote", data=asked)
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', quote.text))
    answer = web.ask("POST", f"{PAGES}/batch/analyse", data=fields)
    assert answer.status_code == 200, answer.text
    assert "1,001 images" in answer.text
    assert len(web.runs()[0]["conf"]["file_ids"]) == 1001


@pytest.mark.parametrize("chosen", ["", "0", "one", "9" * 30, "9" * 5000, " ".join(map(str, range(1, 10_002)))])
def test_an_order_that_no_quote_makes_is_refused(web: Web, chosen: str) -> None:
    answer = web.ask("POST", f"{PAGES}/batch/analyse", data={"chosen": chosen, "max_cost_usd": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_form_has_the_bounds_of_the_api(web: Web) -> None:
    for path in ("create-proxies", "analyse/quote"):
        for wrong in ({"name": "x" * 240}, {"format": "x" * 30}):
            answer = web.ask("POST", f"{PAGES}/batch/{path}", data={"everything": "true", **wrong})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("wrong", [{"file_id": "9" * 20}, {"file_id": "0"}, {"file_id": "x"}, {"code": "a\0b"}])
def test_a_retry_names_an_image_that_there_can_be(web: Web, wrong: dict[str, str]) -> None:
    for path in ("retry", "retry/quote"):
        answer = web.ask("POST", f"{PAGES}/failures/{path}", data={"stage": "proxy", **wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_list_of_failures_is_renewed_as_it_was_chosen(web: Web) -> None:
    file_id = web.add()
    Run(web, "fails-on-the-page", file_id).fail(file_id, "too_many_pixels")
    text = page(web, "/failures?stage=proxy&code=too_many_pixels")
    renewed = re.search(r'id="list" hx-get="([^"]+)"', text)
    assert renewed is not None
    assert renewed[1].replace("&amp;", "&").endswith("/failures?stage=proxy&code=too_many_pixels")


def test_people_are_not_told_addresses_of_the_api(web: Web) -> None:
    file_id = web.add()
    Run(web, "done-on-the-page", file_id).proxy(file_id)
    answer = web.ask("POST", f"{PAGES}/batch/create-proxies", data={"file_ids": [file_id]})
    assert "nothing to do" in answer.text
    assert "POST" not in answer.text
