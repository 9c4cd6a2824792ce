"""Where a registry keeps bundles, their test metrics, and the posters that were purged.

Below one URI, on a disk or in a bucket::

    versions/<version>/      a bundle and its signature, immutable: there whole, or deleted whole
    evaluations/<version>.json
    tombstones.json          ids of posters that were purged; replaced atomically
"""

import json
import shutil
from collections.abc import Collection
from typing import Any

from marquee import signing, storage
from marquee.bundle import SUMS_FILE, Bundle
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, InfrastructureError

TOMBSTONES_SCHEMA_VERSION = 1
TOMBSTONES_FILE = "tombstones.json"


def kept_evaluation(bundle_uri: str) -> dict[str, Any]:
    """Read the test metrics that a registry keeps of one of its bundles.

    Args:
        bundle_uri: Where the registry says that the bundle lies.

    Returns:
        The content of its `evaluation.json`.

    Raises:
        DataError: It is not there.
    """
    place, _, version = bundle_uri.rpartition("/versions/")
    uri = storage.join(place, "evaluations", f"{version}.json")
    try:
        return parse_json(storage.read_text(uri), uri)
    except FileNotFoundError:
        raise DataError(
            f"the registry keeps no test metrics of version {version[:12]}: {uri} is missing",
            remedy="register it again with its evaluation.json",
        ) from None


class BundleStore:
    """Bundles of a registry.

    Args:
        uri: Where they are or are to be.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._tombstones = storage.join(uri, TOMBSTONES_FILE)

    def keep(self, bundle: Bundle, evaluation: dict[str, Any]) -> str:
        """Keep a signed copy of a bundle, and its test metrics.

        Args:
            bundle: The bundle.
            evaluation: The content of its `evaluation.json`.

        Returns:
            The copy's URI.

        Raises:
            DataError: The evaluation is of another version.
        """
        if evaluation["version"] != bundle.version:
            raise DataError(
                f"the evaluation is of version {str(evaluation['version'])[:12]}, the bundle is "
                f"{bundle.version[:12]}",
                remedy="evaluate this bundle",
            )
        target = storage.join(self._uri, "versions", bundle.version)
        if not storage.exists(storage.join(target, SUMS_FILE)):
            with storage.scratch_folder(self._uri) as scratch:
                copy = scratch / "bundle"
                shutil.copytree(bundle.folder, copy)
                signing.sign(Bundle(copy, bundle.info))
                storage.publish_folder(copy, target, last=SUMS_FILE)
        elif not signing.is_signed(target):
            self._sign(bundle, target)  # registered before bundles were signed
        kept = storage.join(self._uri, "evaluations", f"{bundle.version}.json")
        if not storage.exists(kept):
            storage.write_text(kept, json.dumps(evaluation, indent=2) + "\n")
        return target

    def _sign(self, bundle: Bundle, target: str) -> None:
        with storage.scratch_folder(self._uri) as scratch:
            copy = scratch / "bundle"
            shutil.copytree(bundle.folder, copy)
            signing.sign(Bundle(copy, bundle.info))
            for name in signing.FILES:
                if (copy / name).exists():
                    storage.write_bytes(storage.join(target, name), (copy / name).read_bytes())

    def delete(self, version: str) -> None:
        """Delete a bundle whole.

        Raises:
            InfrastructureError: Something of it is still there.
        """
        place = storage.join(self._uri, "versions", version)
        storage.remove(place)
        left = storage.list_files(place)
        if left:
            raise InfrastructureError(
                f"{place} still holds {left[0]}", remedy="check your rights there, and try again"
            )

    def add_tombstones(self, poster_ids: Collection[str]) -> int:
        """Remember posters that were purged.

        Args:
            poster_ids: Their ids.

        Returns:
            How many are new.
        """
        new: set[str] = set()

        def add(data: bytes | None) -> bytes:
            known = self._parse_tombstones(data)
            new.clear()
            new.update(set(poster_ids) - known)
            if not new:
                return data or b""
            document = {
                "schema_version": TOMBSTONES_SCHEMA_VERSION,
                "poster_ids": sorted(known | new),
            }
            return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

        storage.update(self._tombstones, add)
        return len(new)

    def tombstones(self) -> frozenset[str]:
        """Give the ids of the posters that were purged; servers leave them out of `similar`."""
        return self._parse_tombstones(storage.read_versioned(self._tombstones)[0])

    def _parse_tombstones(self, data: bytes | None) -> frozenset[str]:
        if data is None:
            return frozenset()
        document = parse_json(data, self._tombstones)
        check_schema_version(document, TOMBSTONES_SCHEMA_VERSION, self._tombstones)
        return frozenset(document["poster_ids"])
