"""Deployment settings: environment over file over defaults, and errors that name the setting."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from include.imaging import Limits
from include.pipeline.settings import SettingsError, load_settings, usable_settings


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "image_proxy.toml"
    file.write_text('bucket = "from-file"\nnova_concurrency = 8\n')
    monkeypatch.setenv("IMAGE_PROXY_SETTINGS_FILE", str(file))
    monkeypatch.setenv("IMAGE_PROXY_BUCKET", "from-environment")
    settings = load_settings()
    assert (settings.bucket, settings.nova_concurrency) == ("from-environment", 8)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IMAGE_PROXY_NOVA_CONCURRENCY", "lots", "IMAGE_PROXY_NOVA_CONCURRENCY"),
        ("IMAGE_PROXY_KEEP_ORIGINAL", "maybe", "'never', 'if_clean' or 'always'"),
        ("IMAGE_PROXY_SCHEDULE", "bogus", "SCHEDULE: Value error, type a cron expression such as 0 * * * *"),
        ("IMAGE_PROXY_SCHEDULE", "61 * * * *", "IMAGE_PROXY_SCHEDULE"),
        ("IMAGE_PROXY_LATE_AFTER_SECONDS", "inf", "IMAGE_PROXY_LATE_AFTER_SECONDS"),
        ("IMAGE_PROXY_INGEST_OVERLAP_SECONDS", "1e300", "IMAGE_PROXY_INGEST_OVERLAP_SECONDS"),
        ("IMAGE_PROXY_INGEST_SCHEDULE", "often", "IMAGE_PROXY_INGEST_SCHEDULE"),
        ("IMAGE_PROXY_BUKET", "x", "unknown setting IMAGE_PROXY_BUKET; known are"),
        ("IMAGE_PROXY_SETTINGS_FILE", "/nowhere.toml", "/nowhere.toml, which is not a file"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert said in str(error.value)


def test_they_are_read_anew_when_something_about_them_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "image_proxy.toml"
    file.write_text('bucket = "first"\n')
    monkeypatch.setenv("IMAGE_PROXY_SETTINGS_FILE", str(file))
    assert load_settings() is load_settings() is usable_settings()
    assert load_settings().bucket == "first"
    file.write_text('bucket = "other"\n')  # as many bytes, a later time
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert load_settings().bucket == "other"
    monkeypatch.setenv("image_proxy_bucket", "third")  # pydantic takes small letters, too
    assert load_settings().bucket == "third"
    file.unlink()
    with pytest.raises(SettingsError, match="not a file"):
        load_settings()


def test_a_misspelt_key_in_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "image_proxy.toml"
    file.write_text('buckett = "x"\n')
    monkeypatch.setenv("IMAGE_PROXY_SETTINGS_FILE", str(file))
    with pytest.raises(SettingsError, match="BUCKETT"):
        load_settings()


@pytest.mark.parametrize("expression", ["*/15 * * * *", "@daily", "@quarterly", "0 6 * * mon-fri"])
def test_what_airflow_takes_for_a_schedule_is_taken(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_SCHEDULE", expression)
    assert load_settings().schedule == expression


def test_a_wrong_schedule_leaves_the_usual_one_so_that_a_run_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_SCHEDULE", "bogus")
    assert usable_settings().schedule == "0 * * * *"


@pytest.mark.parametrize("content", [b"bucket = [", b"bucket = '\xff'"])
def test_a_file_that_is_no_toml_is_named_and_keeps_no_dag_from_being_parsed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "image_proxy.toml"
    file.write_bytes(content)
    monkeypatch.setenv("IMAGE_PROXY_SETTINGS_FILE", str(file))
    with pytest.raises(SettingsError, match=r"SETTINGS_FILE names .*image_proxy.toml, which cannot be read"):
        load_settings()
    assert usable_settings().schedule == "0 * * * *"


def test_a_missing_bucket_says_how_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGE_PROXY_BUCKET", raising=False)
    with pytest.raises(SettingsError, match="IMAGE_PROXY_BUCKET is not set"):
        _ = load_settings().required_bucket


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("MAX_PIXELS", "max_pixels"),
        ("MAX_SOURCE_BYTES", "max_bytes"),
        ("MAX_FRAMES", "max_frames"),
        ("MAX_SCANS", "max_scans"),
        ("DECODE_SECONDS", "seconds"),
        ("DECODE_MEMORY_BYTES", "memory_bytes"),
    ],
)
def test_every_limit_on_an_image_can_be_set(name: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And reaches the decode workers."""
    assert getattr(load_settings().decode_limits, limit) == getattr(Limits(), limit)
    monkeypatch.setenv(f"IMAGE_PROXY_{name}", str(300 * 1024**2 if limit == "memory_bytes" else 77))
    assert getattr(load_settings().decode_limits, limit) in (77, 300 * 1024**2)


def test_no_limit_is_forgotten() -> None:
    assert {field.name for field in fields(Limits)} == {
        "max_pixels", "max_bytes", "max_frames", "max_scans", "seconds", "memory_bytes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IMAGE_PROXY_BUCKET_OWNER", "12", "IMAGE_PROXY_BUCKET_OWNER"),
        ("IMAGE_PROXY_KMS_KEY_ID", "my key", "IMAGE_PROXY_KMS_KEY_ID"),
        ("IMAGE_PROXY_OBJECT_TAGS", '{"aws:x": "1"}', "does not begin with aws:"),
        ("IMAGE_PROXY_OBJECT_TAGS", '{"": "1"}', "IMAGE_PROXY_OBJECT_TAGS"),
        ("IMAGE_PROXY_OBJECT_TAGS", str({f"t{n}": "" for n in range(11)}).replace("'", '"'), "at most 10 tags"),
    ],
)
def test_what_s3_would_refuse_is_refused_by_name(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as error:
        load_settings()
    assert said in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "alias/photos",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ],
)
def test_each_way_of_naming_a_kms_key_is_taken(key: str) -> None:
    assert load_settings(kms_key_id=key).object_rules.upload()["SSEKMSKeyId"] == key


def test_tags_that_are_no_json_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_OBJECT_TAGS", "team=photo")
    with pytest.raises(SettingsError, match="IMAGE_PROXY_OBJECT_TAGS"):
        load_settings()
