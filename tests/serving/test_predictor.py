"""Where posters are decoded and predicted: beside the event loop, or on it if that is quicker."""

import asyncio
import base64
import threading

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster

from marquee.endpoint import InvalidInstance
from serving import predictor
from serving.batching import Overloaded, Pace
from serving.predictor import PosterGenreModel
from serving.settings import ServingSettings

JPEG = encode(noise_poster(1))
MIDDLE = encode(noise_poster(1, 342, 513))
PNG = encode(noise_poster(1), "PNG")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    bundle = tiny_bundle(tmp_path_factory.mktemp("predictor") / "bundle")
    model = PosterGenreModel(bundle, ServingSettings(), None, None)
    model.load()
    yield model
    asyncio.run(model.close())


@pytest.fixture
def threads(loaded, monkeypatch):
    """Names of the threads that ran the model, a run each."""
    seen, run = [], loaded.batcher._run

    def noted(images, *, crowded):
        seen.append(threading.current_thread().name)
        return run(images, crowded=crowded)

    monkeypatch.setattr(loaded.batcher, "_run", noted)
    return seen


@pytest.fixture
def decoders(monkeypatch):
    """Names of the threads that decoded, a request each, without their numbers."""
    seen, decode_all = [], predictor.decode_all

    def noted(*arguments):
        seen.append(threading.current_thread().name.split("_")[0])
        return decode_all(*arguments)

    monkeypatch.setattr(predictor, "decode_all", noted)
    return seen


def ask(model, *requests):
    """Send requests, each of some posters, all at once; give their answers."""

    async def send():
        return await asyncio.gather(*(model.predict(payload(posters)) for posters in requests))

    return asyncio.run(send())


def payload(posters):
    images = [base64.b64encode(poster).decode() for poster in posters]
    return {"instances": [{"image": {"b64": image}} for image in images]}


def test_a_small_poster_that_is_alone_is_predicted_on_the_loop(loaded, threads):
    [here] = ask(loaded, [JPEG])
    assert threads == ["MainThread"]
    beside, _ = ask(loaded, [JPEG], [JPEG])
    assert set(threads[1:]) == {"infer_0"}
    [[first], [second]] = (answer["predictions"] for answer in (here, beside))
    assert first["probabilities"] == pytest.approx(second["probabilities"])
    assert first["genres"] == second["genres"]


@pytest.mark.parametrize("posters", [[PNG], [JPEG, JPEG]], ids=["PNG", "two"])
def test_what_takes_longer_is_not(loaded, threads, posters):
    ask(loaded, posters)
    assert set(threads) == {"infer_0"}


def test_a_slow_model_never_is(loaded, threads, monkeypatch):
    monkeypatch.setattr(loaded._runner, "is_quick", False)
    [alone] = ask(loaded, [JPEG])
    assert [name[:6] for name in threads] == ["decode"]
    beside, _ = ask(loaded, [JPEG], [JPEG])
    assert set(threads[1:]) == {"infer_0"}
    [[first], [second]] = (answer["predictions"] for answer in (alone, beside))
    assert first["probabilities"] == pytest.approx(second["probabilities"])


@pytest.mark.parametrize(
    ("poster", "where"),
    [(JPEG, "MainThread"), (MIDDLE, "decode"), (PNG, "decode")],
    ids=["small", "middle", "PNG"],
)
def test_in_a_crowd_small_posters_are_decoded_on_the_loop(loaded, decoders, poster, where):
    answers = ask(loaded, [poster], [poster], [JPEG, poster])
    assert sorted(decoders) == sorted([where, where, "decode"])
    assert [len(answer["predictions"]) for answer in answers] == [1, 1, 2]


def explain(model, *asked):
    """Send requests at once, each for explanations of some genres; give answers or refusals."""
    requests = [payload([JPEG]) for _ in asked]
    for request, genres in zip(requests, asked, strict=True):
        request["instances"][0]["genres"] = genres

    async def send():
        return await asyncio.gather(*map(model.explain, requests), return_exceptions=True)

    return asyncio.run(send())


def test_explaining_counts_as_what_could_be_predicted_meanwhile(loaded, monkeypatch):
    genres = list(loaded.genres)
    assert all("predictions" in answer for answer in explain(loaded, genres, genres))
    slow = Pace()
    slow.add(10, 10.0)  # a second a genre
    monkeypatch.setattr(loaded, "_explain_pace", slow)
    answered, refused = explain(loaded, genres, genres)
    assert "predictions" in answered
    assert isinstance(refused, Overloaded)


def test_the_pace_of_explaining_is_known_from_the_start_and_learnt(loaded):
    before = loaded._explain_pace.seconds
    assert before > 0
    explain(loaded, [])
    assert loaded._explain_pace.seconds != before


def test_a_damaged_poster_in_a_crowd_is_refused_alone(loaded):
    async def send():
        requests = (loaded.predict(payload([poster])) for poster in (JPEG[:900], JPEG))
        return await asyncio.gather(*requests, return_exceptions=True)

    refused, answered = asyncio.run(send())
    assert isinstance(refused, InvalidInstance)
    assert len(answered["predictions"]) == 1
