"""The scratch disk fills in the middle of a batch: the run is red, no image is to blame, space brings all back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.catalog.records import Outcome
from tests.dags.conftest import Deployment, photograph
from tests.imaging.disks import grow, small_disk

IMAGES = 4

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("kept_free", [0, 512 * 1024])
def test_a_full_disk(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], None], kept_free: int
) -> None:
    """Without a reserve each proxy fails on the disk, and its code says so; with one the batch does not begin."""
    for number in range(IMAGES):
        photograph(deployment.pictures / f"{number}.jpg", 2000, 1500)
    with small_disk(tmp_path / "scratch", 64) as disk:
        monkeypatch.setenv("IMAGE_PROXY_TEMP_DIR", str(disk))
        monkeypatch.setenv("IMAGE_PROXY_MIN_FREE_BYTES", str(kept_free))
        monkeypatch.setenv("IMAGE_PROXY_KEEP_ORIGINAL", "never")
        assert deployment.run() == "failed"
        first = deployment.catalog.run_counts(deployment.run_ids[-1])
        codes = {image.code for image in deployment.images().values()}
        assert list(disk.iterdir()) == []
        assert deployment.objects() == []
        grow(disk, 64 * 1024)
        assert deployment.run(force=True) == "success"
        assert list(disk.iterdir()) == []
    second = deployment.catalog.run_counts(deployment.run_ids[-1]).by_outcome
    tell(f"full disk, {kept_free} bytes kept free: red with {first}, codes {codes}; then green with {dict(second)}")
    assert (first.undecided, codes) == ((IMAGES, {None}) if kept_free else (0, {"disk_full"}))
    assert second[Outcome.ANALYSED] == IMAGES
    assert len(deployment.objects()) == len(deployment.stand_in.calls()) == IMAGES
