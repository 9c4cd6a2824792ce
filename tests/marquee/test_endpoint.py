"""The endpoint's documents: requests read, answers built."""

import base64

import numpy as np
import pytest

from marquee.endpoint import Instance, InvalidInstance, answer, parse_request
from marquee.engine import Prediction
from marquee.errors import DataError

B64 = base64.b64encode(b"bytes").decode()


def instance(**fields):
    return {"image": {"b64": B64}, **fields}


READ = {
    "image only": (instance(), Instance(image=b"bytes")),
    "all fields": (
        instance(year=1979, title="Alien", film_id="348", client_id="web"),
        Instance(image=b"bytes", year=1979, title="Alien", film_id="348", client_id="web"),
    ),
    "nulls": (instance(year=None, title=None), Instance(image=b"bytes")),
    "first year": (instance(year=1874), Instance(image=b"bytes", year=1874)),
    "last year": (instance(year=2100), Instance(image=b"bytes", year=2100)),
}


def test_too_many_posters():
    assert len(parse_request({"instances": [instance()] * 3}, most=3)) == 3
    with pytest.raises(DataError, match="has 4 posters: send at most 3"):
        parse_request({"instances": [instance()] * 4}, most=3)


@pytest.mark.parametrize("name", READ)
def test_sound_instances(name):
    document, expected = READ[name]
    assert parse_request({"instances": [document]}) == [expected]


BODIES = {
    "a list": [instance()],
    "text": "instances",
    "nothing": None,
    "bytes": b"{}",
    "no instances": {},
    "empty": {"instances": []},
    "an object": {"instances": instance()},
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_without_instances(name):
    with pytest.raises(DataError, match="no instances") as caught:
        parse_request(BODIES[name])
    assert not isinstance(caught.value, InvalidInstance)


INVALID = {
    "no object": ("poster.jpg", "no object"),
    "no image": ({}, "no image"),
    "image is text": ({"image": B64}, "no image"),
    "image without b64": ({"image": {"file": "x"}}, "no image"),
    "b64 and url": ({"image": {"b64": B64, "url": "x"}}, "no image"),
    "url is a number": ({"image": {"url": 5}}, "no image"),
    "genres is text": (instance(genres="Horror"), "genres is 'Horror'"),
    "a genre is a number": (instance(genres=["Horror", 5]), r"genres is \['Horror', 5\]"),
    "a long title is not told whole": (instance(title=["x" * 1000]), r"title is \['x+\.\.\.x+'\]:"),
    "b64 is null": ({"image": {"b64": None}}, "no image"),
    "no base64": ({"image": {"b64": "a$c="}}, "not base64"),
    "cut base64": ({"image": {"b64": B64[:-2]}}, "not base64"),
    "a data url": ({"image": {"b64": f"data:image/png;base64,{B64}"}}, "not base64"),
    "unknown field": (instance(yaer=1999), "unknown field 'yaer'"),
    "year before film": (instance(year=1873), "1873 is no release year"),
    "year far ahead": (instance(year=2101), "2101 is no release year"),
    "year is text": (instance(year="1999"), "'1999' is no release year"),
    "year is a fraction": (instance(year=1999.0), "1999.0 is no release year"),
    "year is true": (instance(year=True), "True is no release year"),
    "title is a number": (instance(title=300), "title is 300"),
}


@pytest.mark.parametrize("name", INVALID)
def test_one_bad_instance_refuses_the_request_and_is_named(name):
    document, reason = INVALID[name]
    with pytest.raises(InvalidInstance, match=f"^instance 1: .*{reason}") as caught:
        parse_request({"instances": [instance(), document, instance()]})
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("year", "predicted", "era", "source"),
    [
        (1930, None, "golden_age", "given"),
        (1929, "digital", "silent", "given"),
        (None, "digital", "digital", "predicted"),
        (None, None, "unknown", "none"),
    ],
)
def test_an_answer_holds_what_the_contract_names(year, predicted, era, source):
    prediction = Prediction(
        probabilities={"Comedy": 0.8, "Horror": 0.1},
        genres=["Comedy"],
        unsure=False,
        embedding=np.zeros(64, np.float32),
        era=predicted,
    )
    assert answer(Instance(image=b"", year=year), prediction, "id", "version") == {
        "prediction_id": "id",
        "model_version": "version",
        "probabilities": {"Comedy": 0.8, "Horror": 0.1},
        "genres": ["Comedy"],
        "unsure": False,
        "era": {"value": era, "source": source},
    }
