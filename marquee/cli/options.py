"""Choices that several commands share."""

import enum

import typer

SET = typer.Option([], "--set", help="Override a setting: section.name=value.")


class SourceKind(enum.StrEnum):
    """Where posters come from."""

    FOLDER = "folder"
    DRAWN = "drawn"


class LabelSet(enum.StrEnum):
    """What a model predicts."""

    ALL18 = "all18"
    STUDY4 = "study4"
