"""Where a run of the training pipeline leaves what it makes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marquee import storage
from marquee.errors import UsageError
from marquee.verdict import Verdict


@dataclass(frozen=True)
class RunLayout:
    """The places below a run's URI.

    Args:
        uri: The run's folder.
    """

    uri: str

    @property
    def catalog(self) -> str:
        """The catalog of posters."""
        return storage.join(self.uri, "catalog")

    @property
    def agreement(self) -> str:
        """How the label sources of the catalog agree."""
        return storage.join(self.uri, "ingest", "agreement.json")

    def span(self, name: str) -> str:
        """What a slice of the source left for the merge."""
        return storage.join(self.uri, "ingest", "slices", f"{name}.json")

    @property
    def split(self) -> str:
        """The split plan."""
        return storage.join(self.uri, "balance")

    @property
    def registry(self) -> str:
        """The registry, unless the run is given another."""
        return storage.join(self.uri, "registry")

    @property
    def settings(self) -> str:
        """The resolved settings."""
        return storage.join(self.uri, "settings.json")

    @property
    def labels(self) -> str:
        """What a model says of every poster of a catalog, unless the run is given another place.

        Recurring runs have one URI: each model and each state of the catalog gets its own file.
        """
        return storage.join(self.uri, "score", "{model}-{catalog}.parquet")

    @property
    def summary(self) -> str:
        """The run's summary."""
        return storage.join(self.uri, "summary.json")

    def bundle(self, architecture: str) -> str:
        """The bundle of an architecture."""
        return storage.join(self.uri, "bundles", architecture)

    def checkpoints(self, architecture: str) -> str:
        """What the training of an architecture goes on from when it was stopped."""
        return storage.join(self.uri, "train", architecture, "checkpoints")

    def evaluation(self, architecture: str) -> str:
        """The test metrics of an architecture."""
        return storage.join(self.uri, "evaluate", architecture, "evaluation.json")

    def report(self, name: str) -> str:
        """A page for people, such as `evaluate-vgg16`."""
        return storage.join(self.uri, "reports", f"{name}.html")

    @property
    def validation(self) -> str:
        """The data gate's verdict, the rows that failed and the Data Docs."""
        return storage.join(self.uri, "validate")

    @property
    def gate(self) -> str:
        """What the champion gate said."""
        return storage.join(self.uri, "gate", "verdict.json")

    @property
    def rollout(self) -> str:
        """How the rollout went, and what its judge said last."""
        return storage.join(self.uri, "rollout")

    @property
    def drift(self) -> str:
        """A monitoring run's reports, requests to train, and its last verdict."""
        return storage.join(self.uri, "drift")

    @property
    def trainings(self) -> str:
        """The training runs that a monitoring run has started."""
        return storage.join(self.uri, "trainings")

    def verdicts(self) -> list[Verdict]:
        """Read what the gates after training, or of drift, said, as far as they said anything."""
        places = filter(storage.exists, self._verdicts)
        return [Verdict.from_json(storage.read_text(place), place) for place in places]

    def forget_verdicts(self) -> None:
        """Drop what an earlier try of the same run said."""
        for place in self._verdicts:
            storage.remove(place)

    @property
    def _verdicts(self) -> tuple[str, ...]:
        return (
            self.gate,
            storage.join(self.rollout, "verdict.json"),
            storage.join(self.drift, "verdict.json"),
        )

    def write_page(self, name: str, page: str, artifact: str = "") -> None:
        """Write a page for people below the run, and where the Kubeflow UI looks for it.

        Args:
            name: The page's name, such as `evaluate-vgg16`.
            page: HTML that stands alone.
            artifact: The local path of a KFP artifact, if there is one.
        """
        storage.write_text(self.report(name), page)
        if artifact:
            Path(artifact).parent.mkdir(parents=True, exist_ok=True)
            Path(artifact).write_text(page, encoding="utf-8")

    def claim(self, posters: dict[str, Any], settings: dict[str, Any]) -> None:
        """Store what the run is made of; refuse a folder whose catalog has other posters.

        Args:
            posters: What chooses the posters: source, path, limit and years.
            settings: The resolved settings.

        Raises:
            UsageError: The folder holds a run on other posters.
        """
        if storage.exists(self.settings):
            earlier = json.loads(storage.read_text(self.settings))["posters"]
            if earlier != posters:
                raise UsageError(
                    f"{self.uri} holds a run on other posters ({earlier})",
                    remedy="give --out another folder, or remove this one",
                )
        document = {"posters": posters, "settings": settings}
        storage.write_text(self.settings, json.dumps(document, indent=2) + "\n")
