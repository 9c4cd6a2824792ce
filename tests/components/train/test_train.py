"""Training on drawn films: what comes out, that it repeats, and what is refused."""

import dataclasses
import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import encode, noise_poster
from PIL import Image, ImageEnhance
from safetensors.torch import load_file, save_file

from components.train.architectures import (
    NAMES,
    Phase,
    architecture,
    parameter_groups,
    phases,
)
from components.train.cross_validation import CrossValidation
from components.train.data import Turn, augment, random_for, read_subset, recolour
from components.train.features import FrozenPart, VariedFeatures, View
from components.train.settings import TrainSettings, resolve_settings
from components.train.train import Order, train
from components.train.world import World
from marquee import feature_cache, licences
from marquee.bundle import load
from marquee.catalog import Catalog, CatalogWriter
from marquee.engine import Engine
from marquee.errors import DataError, DataGateFailed, UsageError
from marquee.images import Preprocessing, decode, preprocess
from marquee.lineage import read_training_posters
from marquee.neighbours import Neighbours
from marquee.profile import UNLABELLED, Profile
from marquee.settings import LicenceSettings, Settings
from marquee.split import SplitPlan

PREPROCESSING = Preprocessing(height=48, width=32)
TINY_CNN = {"height": 48, "width": 32, "epochs": 2, "batch_size": 16, "workers": 0}


def order(catalog, split, bundle, architecture="custom_cnn", **changes):
    values = {"weights": "random", **changes}
    return Order(
        catalog_uri=catalog,
        split_uri=split,
        architecture=architecture,
        bundle_uri=str(bundle),
        **values,
    )


def posters(bundle, count=5):
    images = [encode(noise_poster(number)) for number in range(count)]
    return np.stack([preprocess(data, bundle.info.preprocessing) for data in images])


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16"])
def test_the_engine_agrees_with_pytorch(name, drawn_bundles):
    bundle = load(drawn_bundles[name])
    images = posters(bundle)
    settings = TrainSettings(**json.loads(bundle.info.environment["settings"]))
    model = architecture(name).build(len(bundle.info.genres), settings, "random").eval()
    model.load_state_dict(load_file(bundle.folder / "weights.safetensors"))
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
        bias = model.head.bias().numpy()
    found = Engine(bundle).infer(images, ("logits", "embedding", "maps"))
    assert np.abs(found["logits"] - expected).max() < 1e-3
    assert found["embedding"].shape == (5, 64)
    assert np.abs(found["maps"].sum(axis=(2, 3)) + bias - expected).max() < 1e-3


def test_the_bundle_says_what_it_is(drawn_bundles, drawn_catalog):
    info = load(drawn_bundles["custom_cnn"]).info
    assert info.catalog_digest == Catalog(drawn_catalog).manifest.digest
    assert (info.label_set, info.genres) == ("study4", ("Comedy", "Horror", "Action", "Romance"))
    assert all(0 < threshold < 1 for threshold in info.thresholds)
    assert 0 < info.validation["macro_map"] <= 1


def test_the_reference_profile_counts_the_validation_posters(
    drawn_bundles, drawn_catalog, drawn_split
):
    info = load(drawn_bundles["custom_cnn"]).info
    profile = Profile.from_document(info.reference_profile, "bundle")
    plan = SplitPlan.read(drawn_split)
    assert profile.total == len(plan.ids("validation")) == len(profile.embeddings) > 10
    assert profile.scores.sum() == len(info.genres) * profile.total
    assert profile.scores[:, :, UNLABELLED].sum() == 0
    assert (profile.measures.sum(axis=(1, 2)) == profile.total).all()


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16"])
def test_the_bundle_finds_its_training_posters(name, drawn_bundles, drawn_catalog, drawn_split):
    bundle, catalog, plan = (
        load(drawn_bundles[name]), Catalog(drawn_catalog), SplitPlan.read(drawn_split)
    )  # fmt: skip
    index = Neighbours.read(str(bundle.folder))
    trained = plan.ids("train")
    assert len(index) == len(trained)
    everything = index.nearest(np.ones(64), len(trained))
    assert {item.poster_id for item in everything} == set(trained)
    facts = catalog.frame().set_index("poster_id")
    for item in everything:
        row = facts.loc[item.poster_id]
        assert (item.film_id, item.title, item.year, item.licence) == (
            row["film_id"], row["title"], row["year"], row["licence"]
        )  # fmt: skip
        assert set(item.genres) == set(row["genres"]) & set(bundle.info.genres)
    # Each poster lies where the served model puts it: nothing but itself is left out there.
    for poster_id, image in catalog.stream_images(
        facts.loc[trained[:5]].reset_index()[["poster_id", "part", "shard_offset", "size"]]
    ):
        pixels = preprocess(image, bundle.info.preprocessing)
        embedding = Engine(bundle).infer(pixels[None])["embedding"][0]
        found = {item.poster_id for item in index.nearest(embedding, len(trained))}
        assert found == set(trained) - {poster_id}


def test_the_same_seed_gives_the_same_weights(drawn_catalog, drawn_split, tmp_path):
    def weights(name, seed):
        settings = Settings(train={**TINY_CNN, "seed": seed})
        uri = train(order(drawn_catalog, drawn_split, tmp_path / name), settings).bundle_uri
        return hashlib.sha256(Path(uri, "weights.safetensors").read_bytes()).hexdigest()

    first = weights("a", 1)
    assert weights("b", 1) == first
    assert weights("c", 2) != first


def test_a_bundle_is_replaced_whole(drawn_catalog, drawn_split, tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "left-over.txt").write_text("of an earlier run")
    settings = Settings(train={**TINY_CNN, "epochs": 1})
    train(order(drawn_catalog, drawn_split, target), settings)
    assert not (target / "left-over.txt").exists()
    load(str(target))


@pytest.fixture
def vgg16(monkeypatch, tmp_path):
    """A small VGG16 with random weights, an empty cache, and what it was given so far."""
    monkeypatch.setenv("MARQUEE_CACHE", str(tmp_path))
    monkeypatch.setattr("components.train.features._SAVE_EVERY", 16)
    settings = resolve_settings("vgg16", Settings(train={"height": 48, "width": 32}))
    model = architecture("vgg16").build(4, settings, "random")
    given = []
    model.normalise.register_forward_pre_hook(lambda _module, images: given.append(len(images[0])))
    return model, settings, given


def rows_of(view):
    return np.stack([view[row] for row in range(len(view))])


def test_features_are_computed_once(vgg16, drawn_catalog, drawn_split):
    model, settings, given = vgg16
    subset = read_subset(Catalog(drawn_catalog), SplitPlan.read(drawn_split), "train")

    def view(size=PREPROCESSING, **options):
        part = FrozenPart(model, len(model.backbone), size, settings, World())
        return part.view(subset, **options)

    def stop(_module, _images):
        if len(given) == 2:
            raise KeyboardInterrupt

    killed = model.backbone[0].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        view()
    killed.remove()
    given.clear()
    first = view()
    assert sum(given) == len(subset) - 16
    given.clear()
    assert np.array_equal(rows_of(first), rows_of(view()))
    assert given == []
    for options in ({"size": Preprocessing(height=64, width=32)}, {"mirrored": True}):
        given.clear()
        view(**options)
        assert sum(given) == len(subset)


def test_features_of_features_are_those_of_posters(vgg16, drawn_catalog, drawn_split):
    model, settings, given = vgg16
    subset = read_subset(Catalog(drawn_catalog), SplitPlan.read(drawn_split), "validation")
    settings = dataclasses.replace(settings, precision="fp32")

    def part(last, below=None):
        return FrozenPart(model, last, PREPROCESSING, settings, World(), below)

    below = part(1)
    by_way = rows_of(part(len(model.backbone), below).view(subset))
    assert sum(given) == len(subset)
    straight = rows_of(part(len(model.backbone)).view(subset))
    assert by_way == pytest.approx(straight, rel=1e-2, abs=1e-2)


@pytest.fixture
def numbered():
    """Feature maps [2, 8, 6] of four posters, plain and mirrored: no number occurs twice."""
    numbers = np.arange(4 * 2 * 8 * 6, dtype=np.float16).reshape(4, 2, 8, 6)
    names = ["a", "b", "c", "d"]
    views = []
    for values in (numbers, -1 - numbers):
        records = np.empty(4, [("sha256", "S64"), ("features", "f2", (2, 8, 6))])
        records["sha256"], records["features"] = names, values
        places = {name: (0, row) for row, name in enumerate(names)}
        views.append(View(feature_cache.Stored([records], places), names))
    return views


def windows(inputs, epoch):
    """The batches of an epoch, as lists of arrays."""
    turns = [
        [Turn(0, epoch), Turn(1, epoch)],
        [Turn(2, epoch, 0, 1), Turn(3, epoch, 0, 1), Turn(0, epoch, 1, 1)],
    ]
    return [array for batch in inputs.batches(turns) for array in batch.numpy()]


def test_feature_maps_are_mirrored_and_trimmed_as_chance_has_it(numbered):
    plain, mirrored = numbered
    inputs = VariedFeatures(plain, mirrored, ["a", "b", "c", "d"], 0.5, 3)
    seen, sizes = set(), set()
    for epoch in range(40):
        for row, found in zip((0, 1, 2, 3, 0), windows(inputs, epoch), strict=True):
            source = (plain if found.min() >= 0 else mirrored)[row]
            corner = np.argwhere(source == found[0, 0, 0])[0][1:]
            height, width = found.shape[1:]
            top, left = corner
            assert np.array_equal(source[:, top : top + height, left : left + width], found)
            seen.add((found.min() >= 0, top, left))
            sizes.add((height, width))
    assert {height for height, _ in sizes} == {5, 6, 7, 8}
    assert {width for _, width in sizes} == {4, 5, 6}
    assert {view for view, _, _ in seen} == {True, False}
    assert {top for _, top, _ in seen} == set(range(4))
    again = windows(VariedFeatures(plain, mirrored, ["a", "b", "c", "d"], 0.5, 3), 7)
    assert all(map(np.array_equal, windows(inputs, 7), again))


def test_features_are_left_as_they_are_unless_asked(numbered):
    plain, _ = numbered
    inputs = VariedFeatures(plain, None, ["a", "b", "c", "d"], 0.0, 3)
    found = windows(inputs, 1)
    assert all(
        np.array_equal(plain[row], map_) for row, map_ in zip((0, 1, 2, 3), found, strict=False)
    )


def test_the_moments_of_features(vgg16, drawn_catalog, drawn_split):
    model, settings, _ = vgg16
    subset = read_subset(Catalog(drawn_catalog), SplitPlan.read(drawn_split), "validation")
    part = FrozenPart(model, len(model.backbone), PREPROCESSING, settings, World())
    view = part.view(subset)
    mean, variance = (values.numpy() for values in view.moments())
    assert mean == pytest.approx(rows_of(view).mean(axis=0), abs=1e-4)
    assert variance == pytest.approx(rows_of(view).var(axis=0), abs=1e-4)


def test_augmentation_follows_seed_epoch_and_poster():
    image = decode(encode(noise_poster(4, 120, 180)))

    def varied(seed, epoch, poster):
        return augment(image, PREPROCESSING, random_for(seed, epoch, poster))

    assert np.array_equal(varied(0, 1, "a"), varied(0, 1, "a"))
    for other in ((1, 1, "a"), (0, 2, "a"), (0, 1, "b")):
        assert not np.array_equal(varied(0, 1, "a"), varied(*other))


@pytest.mark.parametrize("shares", [(0.8, 1, 1), (1, 0.8, 1), (1, 1, 0.8), (0.9, 1.2, 0.85)])
def test_colours_are_varied_as_pillow_does(shares):
    # Neither pure white nor black: Pillow cuts off what is beyond them after each step.
    pixels = np.random.default_rng(1).integers(50, 190, (30, 20, 3), dtype=np.uint8)
    wanted = Image.fromarray(pixels)
    enhancers = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness)
    for enhance, share in zip(enhancers, shares, strict=True):
        wanted = enhance(wanted).enhance(share)
    differences = recolour(pixels, *shares).astype(int) - np.asarray(wanted).astype(int)
    assert np.abs(differences).max() <= 3
    assert np.abs(pixels.astype(int) - np.asarray(wanted)).max() > 10


def test_a_plan_of_another_state_of_the_catalog_is_refused(drawn_catalog, drawn_split, tmp_path):
    plan = SplitPlan.read(drawn_split)
    stale = SplitPlan(plan.frame, plan.balance | {"catalog_digest": "0" * 64})
    stale.write(str(tmp_path / "split"))
    with pytest.raises(DataError, match="was made for the catalog"):
        train(order(drawn_catalog, str(tmp_path / "split"), "unused"), Settings())


@pytest.fixture
def under_terms(drawn_catalog, drawn_split, tmp_path):
    """The drawn catalog and its plan, but the posters of one split are under other terms."""

    def make(split, **terms):
        uri, plan = str(tmp_path / "catalog"), SplitPlan.read(drawn_split)
        shutil.copytree(drawn_catalog, uri)
        ids = set(plan.ids(split)[:5])

        def change(facts):
            changes = {"title": f"{facts.title} again", **terms}
            return dataclasses.replace(facts, **changes) if facts.poster_id in ids else facts

        writer = CatalogWriter(uri, "test")
        assert writer.relabel(change) == 5
        digest = {"catalog_digest": writer.publish().digest}
        SplitPlan(plan.frame, plan.balance | digest).write(str(tmp_path / "split"))
        return uri, str(tmp_path / "split")

    return make


FORBIDDEN = {
    "TMDB": ("train", {"licence": licences.TMDB}, "TMDB's terms of use"),
    "TMDB in validation": ("validation", {"licence": licences.TMDB}, "licence.tmdb_agreement"),
    "TMDB in the test": ("test", {"licence": licences.TMDB}, "written agreement"),
    "IMDb's labels": ("train", {"label_licences": {"imdb": licences.IMDB}}, "licence.imdb_agreem"),
    "expired": ("train", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "5 posters have expi"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_posters_whose_terms_forbid_it_train_nothing(name, under_terms, tmp_path):
    split, terms, words = FORBIDDEN[name]
    with pytest.raises(DataGateFailed) as caught:
        train(order(*under_terms(split, **terms), tmp_path / "b"), Settings())
    assert words in str(caught.value)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "b").exists()


def test_an_agreement_lets_them_train_and_the_bundle_names_them(under_terms, tmp_path):
    catalog, split = under_terms("train", licence=licences.TMDB, source="tmdb")
    settings = Settings(
        train={**TINY_CNN, "epochs": 1}, licence=LicenceSettings(tmdb_agreement="contract 7")
    )
    bundle = train(order(catalog, split, tmp_path / "b"), settings).bundle_uri
    rows = read_training_posters(bundle)
    plan = SplitPlan.read(split)
    for name in ("train", "validation"):
        assert rows.loc[rows["split"] == name, "poster_id"].tolist() == plan.ids(name)
    assert set(rows["split"]) == {"train", "validation"}
    assert rows.loc[rows["source"] == "tmdb", "licence"].tolist() == [licences.TMDB] * 5
    assert rows["film_id"].notna().all()
    assert licences.attributions(Catalog(catalog).frame()) == Neighbours.read(bundle).attributions
    assert load(bundle).version


def test_settings_of_one_architecture_win_over_the_common_ones():
    settings = Settings(train={"epochs": 3, "vgg16": {"epochs": 7}})
    assert resolve_settings("vgg16", settings).epochs == 7
    assert resolve_settings("custom_cnn", settings).epochs == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown setting train.custom_cnn.epoch"),
        ({"epochs": 0}, "train.epochs is 0"),
        ({"epochs": "many"}, "train.custom_cnn.epochs is 'many'"),
        ({"precision": "fp8"}, "train.precision is 'fp8'"),
        ({"precisions": "int8,fp8"}, "train.precisions names 'fp8'"),
        ({"default_precision": "fp8"}, "train.default_precision is 'fp8'"),
        ({"preset": "kaggle"}, "train.preset is 'kaggle'"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(UsageError, match=message):
        resolve_settings("custom_cnn", Settings(train=values))


def test_an_architecture_is_a_file():
    assert NAMES == ("convnext_tiny", "custom_cnn", "efficientnet_b0", "vgg16")
    assert [name for name in NAMES if not architecture(name).pretrained] == ["custom_cnn"]
    with pytest.raises(UsageError, match="alexnet"):
        resolve_settings("alexnet", Settings())


def test_a_preset_brings_settings_of_its_own():
    study = resolve_settings("custom_cnn", Settings(train={"preset": "study", "epochs": 12}))
    assert (study.height, study.learning_rate, study.ema, study.epochs) == (224, 1e-4, 0.0, 12)
    with pytest.raises(UsageError, match="preset is 'study'"):
        resolve_settings("vgg16", Settings(train={"preset": "study"}))


def test_the_head_learns_faster_than_what_is_below_it():
    settings = resolve_settings("vgg16", Settings())
    model = architecture("vgg16").build(4, settings, "random")
    _, tuning = phases("vgg16", model, settings)
    groups = parameter_groups(model.trained_part(tuning.frozen), tuning)
    scales = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    assert {scales[id(weight)] for weight in model.head.parameters()} == {1.0}
    assert {scales[id(weight)] for weight in model.backbone[2].parameters()} == {0.33}
    assert not scales.keys() & {id(weight) for weight in model.backbone[1].parameters()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stages"), [("efficientnet_b0", 2), ("convnext_tiny", 2), ("vgg16", 2)]
)
def test_other_backbones_train_on_the_same_path(name, stages, drawn_catalog, drawn_split, tmp_path):
    tiny = {"height": 48, "width": 32, "epochs": 2, "fine_tune_epochs": 1, "batch_size": 32}
    tiny |= {"fine_tune_stages": stages}
    report = train(order(drawn_catalog, drawn_split, tmp_path / "b", name), Settings(train=tiny))
    bundle = load(report.bundle_uri)
    outputs = Engine(bundle).infer(posters(bundle), ("logits", "embedding", "maps"))
    assert outputs["maps"].shape[:2] == (5, 4)
    assert [row["phase"] for row in report.history] == [1, 1, 2]


def test_a_bundle_holds_the_precisions_that_were_kept(drawn_catalog, drawn_split, tmp_path):
    tiny = {**TINY_CNN, "epochs": 1, "precisions": "int8, bf16", "default_precision": "bf16"}
    report = train(order(drawn_catalog, drawn_split, tmp_path / "b"), Settings(train=tiny))
    bundle = load(report.bundle_uri)
    assert {"fp32", "bf16"} <= bundle.info.variants.keys()
    assert bundle.info.precision == "bf16" == Engine(bundle).precision
    full, *reduced = (
        Engine(bundle, name).probabilities(posters(bundle)) for name in bundle.info.variants
    )
    for probabilities in reduced:
        assert np.abs(probabilities - full).max() < 0.05
        assert not np.array_equal(probabilities, full)


@pytest.mark.slow
def test_cross_validation_tests_each_poster_once(drawn_catalog, drawn_split, tmp_path):
    tiny = {"height": 48, "width": 32, "epochs": 2, "folds": 3}
    report = train(order(drawn_catalog, drawn_split, tmp_path / "b", "vgg16"), Settings(train=tiny))
    found = load(report.bundle_uri).info.cross_validation
    assert found.keys() == {"macro_map", "macro_f1", "micro_f1", "top1"}
    for values in found.values():
        assert len(values) == 3
        assert all(0 <= value <= 1 for value in values)
    with pytest.raises(UsageError, match="use 3 or more"):
        resolve_settings("vgg16", Settings(train={"folds": 2}))


def test_folds_share_no_film_and_hold_every_poster_once(drawn_catalog, drawn_split):
    plan, catalog = SplitPlan.read(drawn_split), Catalog(drawn_catalog)
    everyone = read_subset(catalog, plan, "train").beside(read_subset(catalog, plan, "validation"))
    # Drawn films have one poster each: let every two of them be a film.
    pairs = dataclasses.replace(
        plan, frame=plan.frame.assign(group_id=[f"film {n // 2}" for n in range(len(plan.frame))])
    )
    settings = resolve_settings("vgg16", Settings(train={"folds": 3}))
    phase = Phase(name="head", frozen=3, settings=settings)
    folds = CrossValidation(head=None, frozen=None, phase=phase, plan=pairs, world=World())
    parts = folds.parts(everyone)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(everyone)))
    group = pairs.frame.set_index("poster_id")["group_id"]
    films = [set(everyone.frame["poster_id"].iloc[rows].map(group)) for rows in parts]
    assert len(films) == 3
    assert sum(map(len, films)) == len(set.union(*films)) < len(everyone)


def test_the_study_s_own_network_has_no_evidence_maps(drawn_catalog, drawn_split, tmp_path):
    tiny = {"preset": "study", "height": 48, "width": 32, "epochs": 1, "batch_size": 16}
    report = train(order(drawn_catalog, drawn_split, tmp_path / "b"), Settings(train=tiny))
    bundle = load(report.bundle_uri)
    assert bundle.info.explanation == "occlusion"
    assert Engine(bundle).infer(posters(bundle))["embedding"].shape == (5, 64)
    weights = load_file(bundle.folder / "weights.safetensors")
    kernels = [value.shape for value in weights.values() if value.ndim == 4 and len(value) > 1]
    assert [tuple(shape) for shape in kernels] == [
        (64, 3, 3, 3),
        (128, 64, 3, 3),
        (256, 128, 3, 3),
        (512, 256, 3, 3),
    ]


def _wrong_keys(path):
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda path: None, UsageError, "there are no weights"),
        (lambda path: path.write_bytes(b"pickled"), DataError, "no safetensors file"),
        (_wrong_keys, DataError, "does not hold the convolutional weights of VGG16"),
    ],
    ids=["missing", "not safetensors", "wrong keys"],
)
def test_unusable_weights(write, error, message, tmp_path):
    write(tmp_path / "weights.safetensors")
    with pytest.raises(error, match=message):
        architecture("vgg16").build(
            4, resolve_settings("vgg16", Settings()), str(tmp_path / "weights.safetensors")
        )
