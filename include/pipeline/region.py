"""In which region Nova is called: the bucket's, because Nova does not read an image from another region's bucket."""

from __future__ import annotations

import logging
from typing import Any

from include.nova import may_be_called_from
from include.pipeline.settings import Settings
from include.storage.region import bucket_region

log = logging.getLogger(__name__)


class RegionMismatch(ValueError):
    """The bucket, the connection and the inference profile cannot work together; the message says what to change."""

    code = "region_mismatch"


def nova_region(s3: Any, settings: Settings, model_id: str, connection_region: str) -> str:
    """Return the region to call `model_id` in. ``s3`` is a boto3 client that may ask for the bucket's region.

    The setting `bedrock_region` wins; then the bucket's region; then the connection's, where S3 does not tell (another
    S3 server, no bucket set). Raises `RegionMismatch` when the inference profile is of another geography.
    """
    told = bucket_region(s3, settings.bucket, settings.object_rules) if settings.bucket else None
    region = settings.bedrock_region or told or connection_region
    if told and told != region:
        log.warning("the bucket %s lies in %s, but Nova is called in %s", settings.bucket, told, region)
    elif region != connection_region:
        log.info("Nova is called in %s, the bucket's region; the connection's is %s", region, connection_region)
    if not may_be_called_from(model_id, region):
        raise RegionMismatch(
            f"{model_id} cannot be called from {region}"
            + (f", where the bucket {settings.bucket} lies" if told == region else "")
            + ": choose the model_id of a profile of that geography (or global.), or a bucket in another region"
        )
    return region
