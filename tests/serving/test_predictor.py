"""Where the model runs: beside the event loop, or on it if that is quicker and nobody waits."""

import asyncio
import base64
import threading

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster

from serving.predictor import PosterGenreModel
from serving.settings import ServingSettings

JPEG = encode(noise_poster(1))
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
