"""Decides which calls go wrong: by the throttling rate, and by forced rules that can be changed while it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from dataclasses import dataclass

from include.local.nova_stand_in.errors import BedrockError
from include.local.nova_stand_in.settings import Forced, JobRules, StandInSettings

_MESSAGES = {
    "ThrottlingException": "Too many requests, please wait before trying again.",
    "ServiceUnavailableException": "Bedrock is unable to process your request.",
    "InternalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "ModelTimeoutException": "Model has timed out in processing the request. Try your request again.",
    "ModelNotReadyException": "Model is not ready for inference. Wait and try your request again.",
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "ResourceNotFoundException": "Could not resolve the foundation model from the provided model identifier.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a call: `error` instead of an answer, or an answer spoilt by `forced`, after `latency_ms`."""

    error: BedrockError | None
    forced: Forced | None
    latency_ms: int


class Trouble:
    """The rules in force; every method may be called from any thread."""

    def __init__(self, settings: StandInSettings) -> None:
        self._lock = threading.Lock()
        self._settings = settings
        self._served = [0] * len(settings.forced)

    def change(self, **changes: object) -> None:
        """Replace settings by name (`forced`, `throttle_rate`, `throttle_seed`, `latency_ms`, `jobs`).

        New forced rules start counting their `times` anew. Raises `ValueError` for others or impossible ones.
        """
        if not set(changes) <= {"forced", "throttle_rate", "throttle_seed", "latency_ms", "jobs"}:
            raise ValueError("only forced, throttle_rate, throttle_seed, latency_ms and jobs change while it runs")
        with self._lock:
            self._settings = dataclasses.replace(self._settings, **changes)  # type: ignore[arg-type]
            if "forced" in changes:
                self._served = [0] * len(self._settings.forced)

    @property
    def jobs(self) -> JobRules:
        """The rules of batch jobs that are in force now."""
        with self._lock:
            return self._settings.jobs

    def judge(self, call: int, s3_uris: list[str], operation: str | None = None) -> Verdict:
        """What happens to call number `call`; counts it on the rule that it falls under."""
        with self._lock:
            settings = self._settings
            forced = self._matching(call, s3_uris, operation)
        latency = settings.latency_ms + (forced.latency_ms if forced else 0)
        if forced is not None and forced.error is not None:
            return Verdict(_error(forced.error, forced.message), forced, latency)
        if _share(settings.throttle_seed, call) < settings.throttle_rate:
            return Verdict(_error("ThrottlingException", None), forced, latency)
        return Verdict(None, forced, latency)

    def judge_record(self, call: int, s3_uris: list[str]) -> Verdict:
        """What happens to a record of a job. A job is never throttled from within: it has its own pace."""
        with self._lock:
            forced = self._matching(call, s3_uris, None)
        error = _error(forced.error, forced.message) if forced and forced.error else None
        return Verdict(error, forced, 0)

    def _matching(self, call: int, s3_uris: list[str], operation: str | None) -> Forced | None:
        for number, rule in enumerate(self._settings.forced):
            if rule.operation != operation:
                continue
            if rule.times is not None and self._served[number] >= rule.times:
                continue
            if rule.calls and call not in rule.calls:
                continue
            if rule.key_contains is not None and not any(rule.key_contains in uri for uri in s3_uris):
                continue
            self._served[number] += 1
            return rule
        return None


def _error(code: str, message: str | None) -> BedrockError:
    return BedrockError(code, message or _MESSAGES.get(code, f"The Nova stand-in was told to answer {code}."))


def _share(seed: int, call: int) -> float:
    """A number in 0..1 that follows from seed and call alone, evenly spread over calls."""
    digest = hashlib.sha256(f"{seed}:{call}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
