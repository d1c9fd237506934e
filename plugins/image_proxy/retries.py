"""Which errors a retry of the task could never mend: they fail it at once, in the words of what raised them."""

from __future__ import annotations

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.pipeline.refusals import NeedsAPerson


def no_useless_retries() -> ExceptionRetryPolicy:
    """Return the retry policy of every operator here: what needs a person fails at once, the rest is tried again."""
    why = "a permission, a setting or a param is wrong: another try would end the same"
    return ExceptionRetryPolicy(rules=[RetryRule(exception=NeedsAPerson, action=RetryAction.FAIL, reason=why)])
