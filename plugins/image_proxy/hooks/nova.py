"""The Airflow connection to Bedrock."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.bedrock import BedrockRuntimeHook
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from botocore.config import Config

    from include.pipeline.settings import Settings


class NovaHook(BedrockRuntimeHook):
    """Bedrock Runtime with the retries that are safe for a model that bills each request.

    botocore repeats a read timeout by itself, and both requests may be billed; so retries are the pipeline's own, by
    error code. Everything else (region, role, endpoint, proxies) comes from the connection.

    :param aws_conn_id: Airflow connection to AWS.
    """

    @cached_property
    def _single_attempt(self) -> Config:
        from botocore.config import Config

        from include.nova import client_config

        return Config(**client_config())

    @property
    def config(self) -> Config:
        """Return the connection's botocore configuration with the single attempt laid over it."""
        return super().config.merge(self._single_attempt)

    @property
    def endpoint(self) -> str:
        """Return who answers: "aws", or "stand-in" for any other host."""
        from include.nova import endpoint_of

        client: Any = self.conn
        return endpoint_of(client)


def nova_hook(settings: Settings, model_id: str) -> NovaHook:
    """Return the hook that calls ``model_id`` in the region where the bucket of the proxies lies.

    Fails the task, without a retry, when the inference profile cannot be called from there.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from include.pipeline.region import RegionMismatch, nova_region

    hook = NovaHook(aws_conn_id=settings.aws_conn_id)
    client: Any = hook.conn
    connection_region = client.meta.region_name
    try:
        region = nova_region(S3Hook(settings.aws_conn_id).conn, settings, model_id, connection_region)
    except RegionMismatch as error:
        raise AirflowFailException(f"{error.code}: {error}") from error
    return hook if region == connection_region else NovaHook(aws_conn_id=settings.aws_conn_id, region_name=region)
