"""What only a person can mend is said as such, and a pool that cannot serve is refused with what to type."""

from __future__ import annotations

from typing import Any

import pytest

from include.catalog.errors import NotMigrated
from include.nova import Disposition, NovaError
from include.pipeline.refusals import NeedsAPerson, told_to_a_person
from include.pipeline.slots import PoolUnfit, check_pools
from include.storage.errors import StorageUnavailable


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (NotMigrated("run python -m include.catalog.migrate"), "include.catalog.migrate"),
        (NovaError("unknown_model", "no card", Disposition.FATAL), "unknown_model: no card"),
        (StorageUnavailable("access_denied", "s3://b/k: AccessDenied"), "s3:PutObject"),
        (StorageUnavailable("bucket_missing", "s3://b/k: NoSuchBucket"), "IMAGE_PROXY_BUCKET"),
    ],
)
def test_what_no_retry_can_mend_is_told_to_a_person(raised: Exception, said: str) -> None:
    with pytest.raises(NeedsAPerson, match=said), told_to_a_person():
        raise raised


@pytest.mark.parametrize(
    "raised",
    [
        StorageUnavailable("storage_unavailable", "503"),
        NovaError("throttled", "busy", Disposition.RETURN),
        OSError("x"),
    ],
)
def test_what_may_pass_by_itself_stays_what_it_was(raised: Exception) -> None:
    with pytest.raises(type(raised)), told_to_a_person():
        raise raised


def fact(slots: int | None, needed: int = 4) -> dict[str, Any]:
    return {"pool": "nova", "needed": needed, "slots": slots, "task_id": "images.analyse"}


@pytest.mark.parametrize("slots", [4, 5, -1])
def test_a_pool_that_can_serve_is_fine(slots: int) -> None:
    check_pools([fact(slots), fact(128, 1)])


@pytest.mark.parametrize(
    ("slots", "found"), [(None, "does not exist"), (3, "has 3 slots"), (1, "has 1 slot,"), (0, "0 slots")]
)
def test_an_unfit_pool_is_named_with_the_command(slots: int | None, found: str) -> None:
    with pytest.raises(PoolUnfit) as caught:
        check_pools([fact(slots)])
    said = str(caught.value)
    assert found in said
    assert 'airflow pools set nova 4 "Requests to Nova in flight"' in said
    assert "images.analyse takes 4" in said
