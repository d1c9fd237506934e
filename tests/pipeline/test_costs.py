"""What each recorded reply costs, on its row and in the report: every figure was worked out by hand.

The proxy has 1195 x 896 px, which Nova processes as 1195 * 896 / 784 = 1366 tokens (rounded). The reply reports 2100
input tokens and 300 output tokens.

- Nova 2 Lite bills 230 tokens for the image: 2100 - 1366 + 230 = 964 billed input tokens.
  964 * 0.33 + 300 * 2.75 = 318.12 + 825 = 1143.12 dollars per million calls.
- Nova Pro bills what it processed: 2100 billed input tokens. 2100 * 0.80 + 300 * 3.20 = 1680 + 960 = 2640.
- flex is half of it, priority 1.75 times.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import text

from include.catalog.records import Outcome
from include.nova import client_config
from include.pipeline.analysis import AnalysisStage
from include.pipeline.params import parse_params
from include.pipeline.settings import load_settings
from include.pipeline.summary import report_of
from tests.dags.conftest import photograph
from tests.nova.conftest import ANSWER, FakeBedrock
from tests.pipeline.conftest import Ground

LITE_2, PRO = "us.amazon.nova-2-lite-v1:0", "us.amazon.nova-pro-v1:0"
RECORDED = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "t", "name": "record_image_analysis", "input": ANSWER}}],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 2100, "outputTokens": 300, "totalTokens": 2400},
    "metrics": {"latencyMs": 1234},
}


@pytest.fixture
def bedrock() -> Iterator[FakeBedrock]:
    server = FakeBedrock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def analyse_one(ground: Ground, bedrock: FakeBedrock, *replies: Any, **conf: Any) -> Any:
    """Analyse one proxy of 1195 x 896 px with these answers; return the row of its analysis."""
    photograph(ground.pictures / "a.jpg", 1600, 1200)
    batch = ground.plan(**conf)
    ground.stage().run(ground.run_id, batch)
    bedrock.answers(*replies)
    keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    nova = boto3.client("bedrock-runtime", endpoint_url=bedrock.url, config=Config(**client_config()), **keys)
    settings, params = load_settings(bucket=ground.bucket), parse_params(ground.catalog.run_params(ground.run_id))
    stage = AnalysisStage(ground.catalog, nova, ground.s3, settings, params, concurrency=1)
    assert stage.run(ground.run_id, batch) == {Outcome.ANALYSED: 1}
    with ground.catalog._store.reading() as connection:
        return connection.execute(text("SELECT * FROM image_analyses")).one()


@pytest.mark.parametrize(
    ("model_id", "tier", "billed", "dollars"),
    [
        (LITE_2, "default", 964, 0.00114312),
        (LITE_2, "flex", 964, 0.00057156),
        (LITE_2, "priority", 964, 0.00200046),
        (PRO, "default", 2100, 0.00264),
        (PRO, "flex", 2100, 0.00132),
        (PRO, "priority", 2100, 0.00462),
    ],
)
def test_a_recorded_reply_costs_what_was_worked_out_by_hand(
    *,
    ground: Ground,
    bedrock: FakeBedrock,
    monkeypatch: pytest.MonkeyPatch,
    model_id: str,
    tier: str,
    billed: int,
    dollars: float,
) -> None:
    monkeypatch.setattr("include.nova.client.endpoint_of", lambda client: "aws")  # a host of AWS would have answered
    row = analyse_one(ground, bedrock, (200, None, RECORDED), model_id=model_id, tier=tier)
    assert (row.input_tokens, row.billed_input_tokens, row.output_tokens, row.latency_ms) == (2100, billed, 300, 1234)
    assert row.cost_usd == row.cost_usd_projected == pytest.approx(dollars, rel=1e-9)
    assert (row.tier, row.price_date, row.endpoint) == (tier, "2026-11-22", "aws")
    [request] = bedrock.requests
    assert row.request_bytes == request.size
    assert request.body.get("serviceTier") == (None if tier == "default" else {"type": tier})
    report = report_of(ground.catalog, ground.run_id)
    assert (report.tiers, report.price_dates, report.request_bytes) == ((tier,), ("2026-11-22",), request.size)
    assert report.cost_usd_per_image == pytest.approx(dollars, abs=1e-9)
    assert report.estimated.billed_input_tokens == billed


def test_what_came_to_nothing_is_in_the_price_of_an_image(ground: Ground, bedrock: FakeBedrock) -> None:
    """A malformed answer is paid, and asked for once more: the image costs twice as much."""
    malformed = json.loads(json.dumps(RECORDED)) | {"stopReason": "malformed_tool_use"}
    analyse_one(ground, bedrock, (200, None, malformed), (200, None, RECORDED))
    report = report_of(ground.catalog, ground.run_id)
    assert (report.cost_usd, report.cost_usd_per_image) == (None, None), "the stand-in bills nothing"
    assert report.cost_usd_projected_per_image == pytest.approx(2 * 0.00114312, abs=1e-9)


def test_the_report_says_plainly_what_proxies_do_to_the_bill(ground: Ground, bedrock: FakeBedrock) -> None:
    """1600 x 1200 px are processed as 2449 tokens, 1195 x 896 as 1366; Nova 2 Lite bills 230 for either."""
    analyse_one(ground, bedrock, (200, None, RECORDED))
    report = report_of(ground.catalog, ground.run_id)
    tokens = report.estimated.image_tokens
    assert tokens is not None
    assert (tokens.processed_original, tokens.processed_proxy) == (2449, 1366)
    assert (tokens.billed_original, tokens.billed_proxy) == (230, 230)
    assert "billed image tokens do not fall" in report.text()


def test_on_nova_pro_billed_image_tokens_fall_by_estimate(ground: Ground, bedrock: FakeBedrock) -> None:
    """202 + 1600 * 1200 / 733 = 2821, 202 + 1195 * 896 / 733 = 1663."""
    analyse_one(ground, bedrock, (200, None, RECORDED), model_id=PRO)
    tokens = report_of(ground.catalog, ground.run_id).estimated.image_tokens
    assert tokens is not None
    assert (tokens.billed_original, tokens.billed_proxy) == (2821, 1663)
    assert "do not fall" not in tokens.says()
