"""
### Images are registered the moment they are uploaded

Listens to the SQS queue that a bucket sends its events to (`IMAGE_PROXY_INGEST_QUEUE_URL`; without it this DAG does not
exist) and registers each new object at once, without listing anything.

**A message is deleted only when all that it names is registered.** Duplicates do no harm; the test event that S3 sends
at set-up is deleted; what cannot be understood stays, for the queue's redrive policy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, AssetWatcher, dag
from image_proxy.assets import IMAGE_CATALOG
from image_proxy.ingest import RegisterUploadsOperator, upload_queue

if settings := upload_queue():
    # Here and nowhere else, for it brings boto3: half a second of CPU at each parse.
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    uploads = Asset(
        name="image_uploads",
        uri="x-image-proxy://uploads",
        watchers=[
            AssetWatcher(
                name="image_uploads_queue",
                trigger=MessageQueueTrigger(
                    scheme="sqs",
                    sqs_queue=settings.ingest_queue_url,
                    aws_conn_id=settings.aws_conn_id,
                    max_messages=10,
                    waiter_delay=2,
                    delete_message_on_reception=False,
                    visibility_timeout=120,
                ),
            )
        ],
    )

    @dag(
        dag_id="catalog_ingest_events",
        schedule=[uploads],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
        tags=["images", "ingest"],
        doc_md=__doc__,
    )
    def catalog_ingest_events() -> None:
        """One task: it registers, deletes messages and updates the asset `image_catalog`."""
        RegisterUploadsOperator(task_id="register", outlets=[IMAGE_CATALOG])

    catalog_ingest_events()
