"""Output models as a team would write them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from include.nova import ImageAnalysis


class Season(StrEnum):
    SUMMER = "summer"
    WINTER = "winter"


class Photographer(BaseModel):
    name: str = ""
    known: bool = False


class Artwork(ImageAnalysis):
    """Ours, with two questions more."""

    season: Season = Field(description="The season that the picture shows.")
    photographer: Photographer = Field(default_factory=Photographer)


class Caption(BaseModel):
    """A model of its own: it shares nothing with ours but the description, though a name is the same."""

    description: str
    labels: list[str] = Field(default_factory=list)
    mood: str = ""


class NoDescription(BaseModel):
    caption: str


class OtherLabels(ImageAnalysis):
    labels: list[str] = Field(default_factory=list)  # type: ignore[assignment]


class Endless(BaseModel):
    description: str
    parts: list[Endless] = Field(default_factory=list)


NOT_A_CLASS: Any = 5
