"""The catalog's tables. `files` says what exists; the `image_*` tables are the state of our work on it.

No state table has a foreign key to `files` for its image: a team may map a table of its own in place of `files`, and
that one is only read. What is *current* is a row whose `superseded_at` is null; a partial unique index allows one per
key, so a second writer cannot make two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    column,
    false,
    table,
    true,
)

from include.catalog.columns import FreeJson, FreeText, UtcDateTime

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# SQLite counts up only a column declared exactly INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")

files = Table(
    "files",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uri", Text, nullable=False, unique=True),
    Column("filename", FreeText, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("format", Text),
    Column("resolution_width", Integer),
    Column("resolution_height", Integer),
    Column("is_proxy", Boolean, nullable=False, server_default=false()),
    Column("source_file_id", Id, ForeignKey("files.id")),
    Column("content_version", Text, nullable=False),
    Column("uploaded_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # an id is never given twice, or a deleted image's history would be another's
)
# The order in which images are listed, without the proxies, which are half of the rows in time.
_listed = files.c.is_proxy == false()
Index("ix_files_listed", files.c.uploaded_at, files.c.id, sqlite_where=_listed, postgresql_where=_listed)
Index("ix_files_source_file_id", files.c.source_file_id)

image_runs = Table(
    "image_runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("dag_id", Text, nullable=False),
    Column("dag_run_id", Text, nullable=False),
    Column("params", FreeJson, nullable=False),
    Column("recipe_version", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("stages", Text, nullable=False),  # "proxy", "analyse" or "proxy,analyse"
    Column("force", Boolean, nullable=False),
    Column("nova_endpoint", Text),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("note", FreeText),
    Column("plan_note", FreeText),  # why the plan took fewer images than it found
    Column("run_type", Text),  # Airflow's: scheduled, backfill, manual, asset_triggered...; null outside of it
    Column("mapped_batches", Integer),  # the most that one planning handed to Airflow
    Column("forced_at", UtcDateTime),  # since when the run redoes things: what it did before then is not redone yet
)

image_run_items = Table(
    "image_run_items",
    metadata,
    Column("run_id", Text, ForeignKey("image_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("file_id", Id, primary_key=True, autoincrement=False),
    Column("batch_id", Integer, nullable=False),
    Column("content_version", Text, nullable=False),  # as planned, then as claimed
    Column("proxy_outcome", Text),
    Column("proxy_code", Text),
    Column("proxy_message", FreeText),
    Column("proxy_started_at", UtcDateTime),
    Column("proxy_decided_at", UtcDateTime),
    Column("proxy_id", Id),  # the image_proxies row that this run wrote
    Column("analysis_outcome", Text),
    Column("analysis_code", Text),
    Column("analysis_message", FreeText),
    Column("analysis_started_at", UtcDateTime),
    Column("analysis_decided_at", UtcDateTime),
    Column("analysis_id", Id),  # the image_analyses row that this run wrote
)
Index("ix_image_run_items_batch", image_run_items.c.run_id, image_run_items.c.batch_id)
Index("ix_image_run_items_file_id", image_run_items.c.file_id)

image_claims = Table(
    "image_claims",
    metadata,
    Column("file_id", Id, primary_key=True, autoincrement=False),  # so that nobody else can have the image
    Column("run_id", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("reserved_usd", Double),  # projected cost of the request that is in flight, while spending is limited
)
Index("ix_image_claims_owner", image_claims.c.owner)
Index("ix_image_claims_run_id", image_claims.c.run_id)

image_proxies = Table(
    "image_proxies",
    metadata,
    Column("id", Id, primary_key=True),
    Column("file_id", Id, nullable=False),
    Column("content_version", Text, nullable=False),
    Column("recipe_version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("action", Text),
    Column("reason", Text),
    Column("uri", Text),
    Column("format", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("original_width", Integer),
    Column("original_height", Integer),
    Column("original_bytes", BigInteger),
    Column("proxy_bytes", BigInteger),
    Column("bytes_uploaded", BigInteger),
    Column("saved_bytes", BigInteger),  # original - proxy; 0 when the original is kept, negative when it grew
    Column("saving_ratio", Double),  # 1 - proxy / original
    Column("seconds", Double),
    Column("sha256", Text),
    Column("proxy_file_id", Id, ForeignKey("files.id", ondelete="SET NULL")),
    Column("code", Text),
    Column("message", FreeText),
    Column("transient", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", UtcDateTime),  # only on a failure that a later run may try again
    Column("run_id", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("superseded_at", UtcDateTime),
    CheckConstraint("status in ('proxied', 'kept', 'failed')", name="status"),
)
_current_proxy = image_proxies.c.superseded_at.is_(None)
Index(
    "uq_image_proxies_current",
    image_proxies.c.file_id,
    image_proxies.c.content_version,
    image_proxies.c.recipe_version,
    unique=True,
    sqlite_where=_current_proxy,
    postgresql_where=_current_proxy,
)
Index("ix_image_proxies_run", image_proxies.c.run_id, image_proxies.c.file_id)
Index("ix_image_proxies_proxy_file_id", image_proxies.c.proxy_file_id)
Index("ix_image_proxies_created_at", image_proxies.c.created_at)
Index(  # the few of a rare status among the many
    "ix_image_proxies_status",
    image_proxies.c.status,
    image_proxies.c.file_id,
    sqlite_where=_current_proxy,
    postgresql_where=_current_proxy,
)

Index("ix_image_proxies_file_id", image_proxies.c.file_id)  # its history: content comes back, images are forgotten

image_analyses = Table(
    "image_analyses",
    metadata,
    Column("id", Id, primary_key=True),
    Column("file_id", Id, nullable=False),
    Column("content_version", Text, nullable=False),
    Column("recipe_version", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("proxy_id", Id, ForeignKey("image_proxies.id", ondelete="SET NULL")),  # what Nova was shown
    Column("status", Text, nullable=False),
    Column("description", FreeText),
    Column("labels", FreeJson),
    Column("visible_text", FreeText),
    Column("objects", FreeJson),
    Column("stop_reason", Text),
    Column("endpoint", Text),
    Column("tier", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("latency_ms", Integer),
    Column("seconds", Double),
    Column("cost_usd", Double),
    Column("cost_usd_projected", Double),
    Column("price_date", Text),
    Column("code", Text),
    Column("message", FreeText),
    Column("transient", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", UtcDateTime),
    Column("run_id", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("superseded_at", UtcDateTime),
    Column("request_bytes", Integer),
    Column("billed_input_tokens", Integer),  # the image's tokens as the model card bills them, not as processed
    Column("extra", FreeJson),  # fields of a team's own output model
    CheckConstraint("status in ('analysed', 'failed')", name="status"),
)
_current_analysis = image_analyses.c.superseded_at.is_(None)
Index(
    "uq_image_analyses_current",
    image_analyses.c.file_id,
    image_analyses.c.content_version,
    image_analyses.c.recipe_version,
    image_analyses.c.model_id,
    image_analyses.c.prompt_version,
    unique=True,
    sqlite_where=_current_analysis,
    postgresql_where=_current_analysis,
)
Index("ix_image_analyses_run", image_analyses.c.run_id, image_analyses.c.file_id)
Index("ix_image_analyses_proxy_id", image_analyses.c.proxy_id)
Index("ix_image_analyses_created_at", image_analyses.c.created_at)
Index(
    "ix_image_analyses_status",
    image_analyses.c.status,
    image_analyses.c.file_id,
    sqlite_where=_current_analysis,
    postgresql_where=_current_analysis,
)

Index("ix_image_analyses_file_id", image_analyses.c.file_id)

image_attempts = Table(
    "image_attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("file_id", Id, nullable=False),
    Column("stage", Text, nullable=False),
    Column("called", Boolean, nullable=False),  # this row is a request that reached Nova
    Column("endpoint", Text),
    Column("tier", Text),
    Column("started_at", UtcDateTime),
    Column("seconds", Double),
    Column("code", Text),  # null: it went well
    Column("message", FreeText),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("latency_ms", Integer),
    Column("cost_usd", Double),
    Column("cost_usd_projected", Double),
    Column("price_date", Text),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("request_bytes", Integer),
    Column("billed_input_tokens", Integer),
)
Index("ix_image_attempts_run", image_attempts.c.run_id, image_attempts.c.file_id)
Index("ix_image_attempts_file_id", image_attempts.c.file_id)
Index("ix_image_attempts_recorded_at", image_attempts.c.recorded_at)

# Failures that a later run may try again, found without looking at what is done.
for _table, _due in ((image_proxies, _current_proxy), (image_analyses, _current_analysis)):
    _retry = and_(_due, _table.c.next_try_at.is_not(None))
    Index(f"ix_{_table.name}_retry", _table.c.next_try_at, sqlite_where=_retry, postgresql_where=_retry)

# Failures, newest first. The index of any status does not do: where nothing has failed yet, statistics have planners
# read all that is done in search of it.
for _table, _current in ((image_proxies, _current_proxy), (image_analyses, _current_analysis)):
    _failed = and_(_current, _table.c.status == "failed")
    Index(
        f"ix_{_table.name}_failed",
        _table.c.created_at,
        _table.c.id,
        sqlite_where=_failed,
        postgresql_where=_failed,
    )

# How far the walk over `files` is done for a key and stages; a cache, see low_water.py.
image_low_water_marks = Table(
    "image_low_water_marks",
    metadata,
    Column("stages", Text, primary_key=True),
    Column("recipe_version", Text, primary_key=True),
    Column("model_id", Text, primary_key=True),
    Column("prompt_version", Text, primary_key=True),
    Column("uploaded_at", UtcDateTime, nullable=False),
    Column("file_id", Id, nullable=False),
    Column("listed", BigInteger, nullable=False),  # images at or below, -1: not to be used
    Column("id_sum", BigInteger, nullable=False),
    Column("measured_at", UtcDateTime, nullable=False),
)

# One batch inference job at Bedrock for one planned batch of a run. `state` is how far our own work on it came,
# `status` what Bedrock last said of it.
image_batch_jobs = Table(
    "image_batch_jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Text, ForeignKey("image_runs.run_id", ondelete="CASCADE"), nullable=False),
    Column("batch_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # counts the jobs of this batch: a cleared task may need another
    Column("client_request_token", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),  # holds the claims of the job's images for as long as it may run
    Column("folder", Text, nullable=False),  # s3://bucket/prefix of everything that belongs to the job
    Column("state", Text, nullable=False),
    Column("status", Text),
    Column("message", FreeText),
    Column("job_arn", Text),
    Column("records", Integer),  # sent to Bedrock
    Column("analysed", Integer),
    Column("failed", Integer),
    Column("returned", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("joined_at", UtcDateTime),
    CheckConstraint("state in ('preparing', 'starting', 'waiting', 'joined', 'refused', 'handed_over')", name="state"),
)
Index(
    "uq_image_batch_jobs_number",
    image_batch_jobs.c.run_id,
    image_batch_jobs.c.batch_id,
    image_batch_jobs.c.number,
    unique=True,
)
Index("ix_image_batch_jobs_state", image_batch_jobs.c.state)

image_sources = Table(
    "image_sources",
    metadata,
    Column("source", Text, primary_key=True),  # s3://bucket/prefix or file:///folder
    Column("watermark", UtcDateTime, nullable=False),  # when the last whole listing began, by the source's own clock
    Column("listed", BigInteger, nullable=False),  # files that it named
    Column("listed_at", UtcDateTime, nullable=False),  # when it was done
)

image_vanished = Table(
    "image_vanished",
    metadata,
    Column("file_id", Id, primary_key=True, autoincrement=False),
    Column("vanished_at", UtcDateTime, nullable=False),  # when maintenance first found no file at the image's uri
)

# At most one row: the table of the team's that stands in for `files` (see mapping.py).
image_table_mapping = Table(
    "image_table_mapping",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("mapping", FreeJson, nullable=False),
    Column("applied_at", UtcDateTime, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# A view for people and other DAGs, one row an image (no proxies, videos or documents), made by the migrations.
# Its proxy and its analysis are the newest current ones of the image's present content, null where there is none yet.
current_image_analyses = table(
    "current_image_analyses",
    column("file_id", Id),
    column("uri", Text),  # the original
    column("filename", Text),
    column("content_version", Text),
    column("uploaded_at", UtcDateTime),
    column("proxy_status", Text),  # proxied, or kept: the original serves as it is
    column("proxy_uri", Text),  # what Nova is shown
    column("proxy_recipe_version", Text),
    column("proxy_format", Text),
    column("proxy_width", Integer),
    column("proxy_height", Integer),
    column("original_bytes", BigInteger),
    column("proxy_bytes", BigInteger),
    column("saved_bytes", BigInteger),  # measured: original_bytes - proxy_bytes
    column("saving_ratio", Double),  # measured: 1 - proxy_bytes / original_bytes
    column("description", Text),
    column("labels", FreeJson),  # [{"name", "confidence"}]
    column("visible_text", Text),
    column("objects", FreeJson),  # [{"name", "box": [x1, y1, x2, y2] in 0..1000}]
    column("model_id", Text),
    column("prompt_version", Text),
    column("analysed_recipe_version", Text),  # differs from the proxy's when a newer proxy was not analysed yet
    column("endpoint", Text),  # "aws", or "stand-in": then the words are not Nova's
    column("cost_usd", Double),
    column("analysed_at", UtcDateTime),
    column("extra", FreeJson),  # what a team's own output model asked for beyond the columns above
    column("tier", Text),
    column("input_tokens", Integer),  # as reported
    column("billed_input_tokens", Integer),
    column("output_tokens", Integer),
    column("price_date", Text),
    column("run_id", Text),  # the run that wrote the analysis
    column("latency_ms", Integer),  # inside the service, as it reports it
    column("cost_usd_projected", Double),  # what it costs by the price list, also on the stand-in
)

# Evaluations: what Nova says of an original and of its proxies, side by side.
image_evaluations = Table(
    "image_evaluations",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("params", FreeJson, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("nova_endpoint", Text, nullable=False),
    Column("file_ids", FreeJson, nullable=False),  # the sample, so that a retry takes the same
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("note", FreeText),
    Column("report", FreeJson),
    Column("report_uri", Text),
)

image_evaluation_calls = Table(
    "image_evaluation_calls",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Text, ForeignKey("image_evaluations.run_id", ondelete="CASCADE"), nullable=False),
    Column("file_id", Id, nullable=False),
    Column("variant", Text, nullable=False),  # "896", "1344", "auto", "original"
    Column("repeat", Integer, nullable=False),  # from 0
    Column("called", Boolean, nullable=False),  # this row is a request that reached Nova
    Column("final", Boolean, nullable=False),  # an answer, or a refusal that asking again would not change
    Column("code", Text),  # null: an answer
    Column("message", FreeText),
    Column("format", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("image_bytes", BigInteger),  # of what Nova was shown
    Column("original_bytes", BigInteger),
    Column("prepare_seconds", Double),
    Column("upload_seconds", Double),
    Column("endpoint", Text),
    Column("started_at", UtcDateTime),
    Column("seconds", Double),
    Column("latency_ms", Integer),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Double),
    Column("cost_usd_projected", Double),
    Column("price_date", Text),
    Column("description", FreeText),
    Column("labels", FreeJson),
    Column("visible_text", FreeText),
    Column("objects", FreeJson),
    Column("recorded_at", UtcDateTime, nullable=False),
)
Index("ix_image_evaluation_calls_run", image_evaluation_calls.c.run_id, image_evaluation_calls.c.file_id)
_final_call = image_evaluation_calls.c.final == true()
Index(
    "uq_image_evaluation_calls_final",
    image_evaluation_calls.c.run_id,
    image_evaluation_calls.c.file_id,
    image_evaluation_calls.c.variant,
    image_evaluation_calls.c.repeat,
    unique=True,
    sqlite_where=_final_call,
    postgresql_where=_final_call,
)

# -- the web pages' previews -------------------------------------------------------------------------------------------
# A small picture of the original for people to look at, made by a worker; one for each content of an image. Nova never
# sees it.
image_previews = Table(
    "image_previews",
    metadata,
    Column("file_id", Id, primary_key=True, autoincrement=False),
    Column("content_version", Text, primary_key=True),
    Column("uri", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# A view for people: what failed and stands so, one row an image and stage. Without `next_try_at` it waits for `force`.
image_failures = table(
    "image_failures",
    column("file_id", Id),
    column("uri", Text),
    column("filename", Text),
    column("stage", Text),  # proxy or analyse
    column("recipe_version", Text),
    column("model_id", Text),  # null at the proxy stage, and so is the prompt's version
    column("prompt_version", Text),
    column("code", Text),
    column("message", Text),
    column("transient", Boolean),
    column("attempts", Integer),
    column("last_try_at", UtcDateTime),
    column("next_try_at", UtcDateTime),
    column("run_id", Text),
)
