"""The summary of a training run: what a script or a person reads first."""

import json
from typing import Any

from marquee import storage
from marquee.agreement import LabelAgreement
from marquee.catalog import Catalog
from marquee.run_layout import RunLayout

SCHEMA_VERSION = 1


def write_summary(layout: RunLayout, architectures: list[str], registry_uri: str) -> dict[str, Any]:
    """Write `summary.json` from what the steps left.

    Args:
        layout: The run.
        architectures: Which were trained.
        registry_uri: Where they were registered.

    Returns:
        The summary.
    """
    manifest = Catalog(layout.catalog).manifest
    evaluations = {
        name: json.loads(storage.read_text(layout.evaluation(name))) for name in architectures
    }
    text = storage.read_text(layout.agreement)
    agreement = LabelAgreement.from_json(text, layout.agreement)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "catalog_digest": manifest.digest,
        "posters": manifest.rows,
        "quarantined": manifest.quarantined,
        "registry": registry_uri,
        "agreement": [
            {
                "sources": [pair.first, pair.second],
                "films": pair.films,
                "macro_jaccard": pair.macro_jaccard,
                "macro_kappa": pair.macro_kappa,
            }
            for pair in agreement.pairs
        ],
        "verdicts": [
            {
                "gate": verdict.gate,
                "outcome": verdict.outcome.value,
                "subject": verdict.subject,
                "sentence": verdict.sentence(),
            }
            for verdict in layout.verdicts()
        ],
        "architectures": {
            name: {
                "version": evaluation["version"],
                "label_set": evaluation["label_set"],
                "test_posters": evaluation["posters"],
                "metrics": evaluation["metrics"],
                "baselines": evaluation["baselines"],
            }
            for name, evaluation in evaluations.items()
        },
    }
    storage.write_text(layout.summary, json.dumps(summary, indent=2) + "\n")
    return summary
