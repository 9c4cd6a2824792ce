"""What the model card says of real posters is what benchmarks/RESULTS.md has."""

import re

import pytest
from helpers import ROOT

CARD = (ROOT / "docs/model-card.md").read_text()
RESULTS = (ROOT / "benchmarks/RESULTS.md").read_text()
TITLES = {
    ("all18", "vgg16"): "all18, vgg16",
    ("all18", "custom_cnn"): "all18, custom_cnn",
    ("all18", "most frequent"): "all18, vgg16",
    ("study4", "vgg16"): "study4, vgg16",
    ("study4", "custom_cnn"): "study4, custom_cnn",
    ("study4", "most frequent"): "study4, vgg16",
}
COLUMNS = ("macro mAP", "macro F1", "top-1", "ECE")


def rows(text):
    """Give the cells of a table's rows."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines]


def section(title):
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", RESULTS, re.M | re.S)
    return found


@pytest.mark.parametrize("labels, name", TITLES)
def test_a_row_of_the_card(labels, name):
    header, *measured = rows(section(f"Real posters: {TITLES[labels, name]}"))
    (row,) = (row for row in measured if row[0] == name)
    (told,) = (row[2:] for row in rows(CARD) if row[:2] == [labels, name])
    assert told == [row[header.index(column)] for column in COLUMNS]


def test_how_long_training_took():
    minutes = {
        name: re.search(r"The run took ([\d.]+) minutes", section(f"Real posters: all18, {name}"))
        for name in ("vgg16", "custom_cnn")
    }
    assert f"{minutes['vgg16'][1]} minutes for VGG16" in CARD
    assert f"{minutes['custom_cnn'][1]} for the custom CNN" in CARD


def test_a_poster_on_one_core():
    for name, told in (("custom_cnn", "0.4 ms"), ("vgg16", "28.3 ms")):
        table = rows(section(f"Engines: {name}"))
        (row,) = (row for row in table if row[:3] == ["OpenVINO", "int8", "1"])
        assert told.split()[0] == row[table[0].index("ms, batch 1")]
        assert told in CARD
