"""Which rows of a catalog are scored."""

import csv

import numpy as np
import pandas as pd
from helpers import write_folder

from components.evaluate.posters import read_posters
from components.ingest.ingest import ingest
from components.ingest.sources.folder import FolderSource
from marquee.catalog import Catalog
from marquee.split import SplitPlan


def test_the_newest_row_of_each_poster_is_read_once(make_folder, tmp_path):
    folder, uri = make_folder(12), str(tmp_path / "catalog")
    ingest(FolderSource(str(folder)), uri, part_rows=5)
    rows = list(csv.DictReader((folder / "posters.csv").open()))
    rows[3] |= {"title": "Director's Cut", "genres": "Horror", "year": ""}
    write_folder(folder, rows, {})
    ingest(FolderSource(str(folder)), uri, part_rows=5)
    splits = ["test", "train", "validation"] * 4
    frame = pd.DataFrame({"poster_id": [row["id"] for row in rows], "split": splits})
    balance = {"label_set": "study4", "labels": ["Comedy", "Horror"], "labels_left_out": {}}
    catalog = Catalog(uri)
    assert len(catalog.manifest.parts) > 3
    found = read_posters(catalog, SplitPlan(frame, balance))

    ids = found.frame["poster_id"].tolist()
    assert sorted(ids) == ["f0000", "f0003", "f0006", "f0009"]
    newest = ids.index("f0003")
    assert found.frame["title"][newest] == "Director's Cut"
    assert np.isnan(found.frame["year"][newest])
    assert found.labels[newest].tolist() == [0, 1]
    assert found.labels.sum(axis=0).tolist() == [3, 1]
    assert found.train_labels.tolist() == [[1, 0]] * 4
    # Where the images are is of the same rows.
    images = dict(catalog.stream_images(found.frame))
    for poster_id, data in images.items():
        assert data == (folder / "images" / f"{poster_id}.jpg").read_bytes()
