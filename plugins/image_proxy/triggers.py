"""Triggers: what the triggerer waits for, so that no worker slot does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class BatchJobTrigger(BaseTrigger):
    """Fires when a batch inference job is over, whichever way; the task that it wakes tells the ways apart.

    It lives in the triggerer and is started again by another one when that goes away. A question that Bedrock does not
    answer (throttled, no connection) is asked again at the next look. Marking the waiting task as failed or succeeded,
    or clearing it, stops the job; a restart of the triggerer does not.

    :param job_arn: The job.
    :param aws_conn_id: Airflow connection to AWS.
    :param poll_seconds: Time between two looks.
    """

    def __init__(self, job_arn: str, aws_conn_id: str, poll_seconds: float) -> None:
        super().__init__()
        self.job_arn = job_arn
        self.aws_conn_id = aws_conn_id
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and what makes it again."""
        arguments = {"job_arn": self.job_arn, "aws_conn_id": self.aws_conn_id, "poll_seconds": self.poll_seconds}
        return (f"{type(self).__module__}.{type(self).__qualname__}", arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the job is over, or unknown to Bedrock."""
        from include.nova.batch import TERMINAL

        async with await self._client() as client:
            while True:
                status = await self._status(client)
                if status in TERMINAL or status is None:
                    yield TriggerEvent({"job_arn": self.job_arn, "status": status})
                    return
                await asyncio.sleep(self.poll_seconds)

    async def on_kill(self) -> None:
        """Stop the job: somebody acted on the waiting task."""
        async with await self._client() as client:
            try:
                await client.stop_model_invocation_job(jobIdentifier=self.job_arn)
            except client.exceptions.ConflictException:
                self.log.info("batch job %s is over already", self.job_arn)
                return
        self.log.info("batch job %s is being stopped", self.job_arn)

    async def _client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.bedrock import BedrockHook

        return await BedrockHook(aws_conn_id=self.aws_conn_id).get_async_conn()

    async def _status(self, client: Any) -> str | None:
        """Return the job's status, "" where nobody answered, None for a job that does not exist."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return str((await client.get_model_invocation_job(jobIdentifier=self.job_arn))["status"])
        except client.exceptions.ResourceNotFoundException:
            return None
        except (ClientError, BotoCoreError) as error:
            self.log.warning("cannot look at batch job %s, trying again: %s", self.job_arn, error)
            return ""
