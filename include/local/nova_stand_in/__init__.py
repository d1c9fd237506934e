"""A local stand-in for Amazon Nova on Bedrock: stock boto3 talks to it, and it never claims to be Nova.

It refuses what Bedrock refuses, in Bedrock's shapes, and answers from the pixels it was sent. Nothing it says or counts
is a figure of Nova's: every response carries `x-nova-stand-in: true`, and its sentences say so.
"""

from include.local.nova_stand_in.call_log import CallRecord
from include.local.nova_stand_in.server import NovaStandIn
from include.local.nova_stand_in.settings import Forced, JobRules, StandInSettings

__all__ = ["CallRecord", "Forced", "JobRules", "NovaStandIn", "StandInSettings"]
