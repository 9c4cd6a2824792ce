"""Prediction records for tests, told apart by their ids."""

from datetime import UTC, datetime

from marquee.records import PredictionRecord


def record(number: int) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=str(number),
        time=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        model_version="v",
        film_id=None,
        client_id=None,
        probabilities={"Comedy": 0.5},
        genres=["Comedy"],
        unsure=False,
        era="unknown",
        era_source="none",
        width=100,
        height=150,
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.5,
        embedding=[0.0] * 64,
        latency_ms=1.0,
        outcome="ok",
    )


def records(count: int, start: int = 0) -> list[PredictionRecord]:
    return [record(number) for number in range(start, start + count)]
