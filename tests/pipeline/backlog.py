"""A backlog for batch inference: images whose proxies stand in S3 and in the catalog, and that nobody has analysed."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from include.catalog.catalog import Catalog
from include.catalog.records import MadeProxy, NewImage, NewProxy, Outcome, RunPlan, Selection, Stage
from include.pipeline.params import parse_params
from include.pipeline.plan import work_key
from include.pipeline.settings import load_settings

ROLE = "arn:aws:iam::123456789012:role/batch"


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(data, "JPEG")
    return data.getvalue()


def bad_pictures() -> list[bytes]:
    """What a proxy's bytes must not be: another format, cut off, no picture."""
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    return [png.getvalue(), jpeg()[:200], b"no picture"]


@dataclass
class Backlog:
    """Adds images, good and bad, as if the proxy stage had made them."""

    catalog: Catalog
    s3: Any
    bucket: str
    added: int = 0
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # two backlogs may share a catalog

    def add(self, good: int, bad: int = 0) -> list[int]:
        """Return the file ids of the new images, the bad ones last."""
        spoilt = bad_pictures()
        bodies = [jpeg()] * good + [spoilt[number % len(spoilt)] for number in range(bad)]
        names = [f"{self.name}-{self.added + number:05}" for number in range(len(bodies))]
        self.added += len(bodies)
        at = datetime.now(UTC)
        self.catalog.register(
            [NewImage(f"s3://originals/{n}.jpg", f"{n}.jpg", "image/jpeg", 5_000_000, "v1", at, "jpeg") for n in names]
        )
        key = work_key(parse_params({}), load_settings())
        run_id = f"making/{names[0]}"
        wanted = Selection(key=key, stages=frozenset({Stage.PROXY}), run_id=run_id)
        mine = [image for image in self.catalog.select_unprocessed(wanted) if image.filename.startswith(self.name)]
        images = sorted(mine, key=lambda image: image.filename)
        ids = tuple(image.file_id for image in images)
        plan = RunPlan(run_id, "making", names[0], {}, key, frozenset({Stage.PROXY}), False, None, (ids,))
        (batch,) = self.catalog.store_plan(plan)
        self.catalog.claim_batch(run_id, batch.batch_id, Stage.PROXY, run_id, 600)
        made = [self._proxy(image.file_id, body) for image, body in zip(images, bodies, strict=True)]
        self.catalog.record_proxies(run_id, run_id, made)
        return list(ids)

    def _proxy(self, file_id: int, body: bytes) -> MadeProxy:
        key = f"proxy_image/{file_id}_nova.jpg"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        proxy = NewProxy(
            outcome=Outcome.PROXIED,
            action="resized",
            uri=f"s3://{self.bucket}/{key}",
            format="jpeg",
            width=96,
            height=64,
            original_width=4000,
            original_height=3000,
            original_bytes=5_000_000,
            proxy_bytes=len(body),
            bytes_uploaded=len(body),
            seconds=0.1,
        )
        return MadeProxy(file_id, proxy)
