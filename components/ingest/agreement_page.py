"""How the label sources of a catalog agree, for people: a page, and a table for the terminal."""

from collections.abc import Mapping, Sequence

import pandas as pd

from components.ingest.imdb import DATASET_URL
from marquee import licences
from marquee.agreement import IMDB, TMDB, GenreAgreement, LabelAgreement, LabelStatus, PairAgreement
from marquee.report import Banner, Bars, Block, Cell, Grades, Table, Tiles, render

FEW_FILMS = 20
"""A genre that fewer films than this carry is counted but not judged."""

SOLID = 0.8
"""A genre whose Jaccard is this high: of five films that either source gives it, both give four."""

DOUBTFUL = 0.6
"""A genre whose Jaccard is below this: of five films, two or more are disputed."""

_NAMES = {TMDB: "TMDB", IMDB: "IMDb", "movielens": "MovieLens"}
_MOST_NAMED = 6
_MOST_PANELS = 6


def agreement_page(
    agreement: LabelAgreement, subtitle: str = "", attributions: Sequence[str] = ()
) -> str:
    """Render how the label sources of a catalog agree.

    Args:
        agreement: What was measured.
        subtitle: What the page is about, such as a catalog's digest.
        attributions: What must stand at the foot, as `licences.attributions` gives it. IMDb's
            stands there wherever IMDb is among the sources.

    Returns:
        HTML that stands alone.
    """
    blocks = _compared(agreement) if agreement.pairs else _nothing_to_compare(agreement)
    footer = dict.fromkeys([*attributions, *_attributions(agreement)])
    return render("Label agreement", subtitle, blocks, list(footer))


def agreement_table(agreement: LabelAgreement) -> tuple[list[str], list[list[str]]]:
    """Give the agreement of every pair of sources by genre, for the command line.

    Args:
        agreement: What was measured.

    Returns:
        The columns (genre, and for each pair Jaccard and kappa), and the rows in words, the
        genres that agree least first; the last row is the mean over genres. No row if there is
        no pair.
    """
    columns = ["genre"]
    for pair in agreement.pairs:
        columns += [f"{_title(pair)} Jaccard", "kappa"]
    if not agreement.pairs:
        return columns, []
    rows = [
        [genre, *(text for pair in agreement.pairs for text in _measures(pair, genre))]
        for genre in _worst_first(agreement.pairs[0])
    ]
    means = [
        _text(value) for pair in agreement.pairs for value in (pair.macro_jaccard, pair.macro_kappa)
    ]
    return columns, [*rows, ["mean", *means]]


def _measures(pair: PairAgreement, genre: str) -> tuple[str, str]:
    if genre in pair.one_sided:
        return "n/a", "n/a"
    counts = pair.genres[genre]
    return _text(counts.jaccard), _text(counts.kappa)


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _attributions(agreement: LabelAgreement) -> list[str]:
    if IMDB not in agreement.sources:
        return []
    row = {"licence": licences.IMDB, "label_licences": None}
    return licences.attributions(pd.DataFrame([row]))


def _compared(agreement: LabelAgreement) -> list[Block]:
    first, *others = agreement.pairs
    blocks: list[Block] = [
        Banner(outcome="note", sentence=_sentence(first)),
        _tiles(agreement),
        _next_steps(first),
    ]
    if others:
        blocks.append(_side_by_side(agreement.pairs[:_MOST_PANELS]))
    blocks += _details(first)
    if agreement.statuses:
        blocks.append(_statuses(agreement.statuses))
    for pair in others:
        blocks += _details(pair)
    return blocks


def _details(pair: PairAgreement) -> list[Block]:
    by_era = _by_era(pair)
    return [_by_genre(pair), by_era] if by_era.columns else [_by_genre(pair)]


def _name(source: str) -> str:
    return _NAMES.get(source, source)


def _title(pair: PairAgreement) -> str:
    return f"{_name(pair.first)} and {_name(pair.second)}"


def _judged(pair: PairAgreement) -> dict[str, float]:
    """Give the Jaccard of each genre that enough films carry and both sources know, as shown."""
    return {
        genre: round(value, 2)
        for genre, counts in pair.genres.items()
        if genre not in pair.one_sided and (value := _grade(counts)) is not None
    }


def _grade(counts: GenreAgreement) -> float | None:
    return counts.jaccard if counts.either >= FEW_FILMS else None


def _worst_first(pair: PairAgreement) -> list[str]:
    """Order the genres that occur: by Jaccard, the lowest first; those not judged at the end."""
    judged = _judged(pair)
    occurring = [genre for genre, counts in pair.genres.items() if counts.either]
    return sorted(
        occurring, key=lambda genre: (genre not in judged, pair.genres[genre].jaccard or 0.0)
    )


def _doubtful(pair: PairAgreement) -> list[str]:
    judged = _judged(pair)
    return [genre for genre in _worst_first(pair) if judged.get(genre, 1.0) < DOUBTFUL]


def _sentence(pair: PairAgreement) -> str:
    judged = _judged(pair)
    if not judged:
        return (
            f"{_title(pair)} both label {_films(pair.films)}: too few to judge any genre "
            f"({FEW_FILMS} that carry it are needed)."
        )
    solid = [genre for genre in reversed(_worst_first(pair)) if judged.get(genre, 0.0) >= SOLID]
    doubtful = _doubtful(pair)
    agree = f"agree well on {_listed(solid)}" if solid else "agree well on no genre"
    if not doubtful:
        return (
            f"{_title(pair)} {agree}. No genre is so disputed that its labels must be distrusted."
        )
    named = [f"{genre} ({judged[genre]:.0%})" for genre in doubtful[:_MOST_NAMED]]
    more = f" and {len(doubtful) - _MOST_NAMED} more" if len(doubtful) > _MOST_NAMED else ""
    return (
        f"{_title(pair)} {agree}. Distrust the labels of {_listed(named)}{more}: in brackets, how "
        "many of the films that either gives the genre get it from both."
    )


def _films(count: int) -> str:
    return f"{count:,} film{'' if count == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    *others, last = words or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _tiles(agreement: LabelAgreement) -> Tiles:
    pair = agreement.pairs[0]
    tiles = [
        ("films compared", f"{pair.films:,}", f"that both label, of {agreement.films:,}"),
        ("macro Jaccard", _text(pair.macro_jaccard), "given by both, of given by either"),
        ("macro kappa", _text(pair.macro_kappa), "0 is chance, 1 full agreement"),
    ]
    disputed, settled = _disputed(_total(agreement.statuses))
    if settled:
        tiles.append(
            ("disputed labels", f"{disputed / settled:.0%}", "of those that can be checked")
        )
    return Tiles(tiles=tiles)


def _total(statuses: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(counts[name] for counts in statuses.values()) for name in LabelStatus}


def _disputed(counts: Mapping[str, int]) -> tuple[int, int]:
    """Count the labels that only one source gives, and those of which both have an opinion."""
    disputed = counts[LabelStatus.TMDB_ONLY] + counts[LabelStatus.IMDB_ONLY]
    return disputed, disputed + counts[LabelStatus.AGREE]


def _next_steps(pair: PairAgreement) -> Table:
    rows = []
    if {pair.first, pair.second} == {TMDB, IMDB}:
        rows.append(
            (
                "Train on what holds",
                "The balance step can leave disputed labels out of the loss (--set "
                "balance.disagreement=mask) or count them less (weigh).",
            )
        )
    doubtful = _doubtful(pair)
    if doubtful:
        rows.append(
            (
                "Read scores beside this page",
                f"On {_listed(doubtful[:3])} not even the sources agree: a model learns from "
                "labels as uncertain as these, and is scored by them.",
            )
        )
    rows.append(
        (
            "Look at single films",
            "The catalog's columns label_sources and agreement say for each poster which source "
            "gave what.",
        )
    )
    return Table(title="What to do next", columns=("step", "how"), rows=rows)


def _side_by_side(pairs: Sequence[PairAgreement]) -> Bars:
    genres = _worst_first(pairs[0])
    return Bars(
        title="Agreement by genre, pairs of sources beside each other",
        rows=genres,
        panels={
            _title(pair): [None if g in pair.one_sided else _grade(pair.genres[g]) for g in genres]
            for pair in pairs
        },
        strong=_title(pairs[0]),
        note="Jaccard: of the films that either source gives the genre, how many get it from both. "
        f"No bar where fewer than {FEW_FILMS} films carry the genre or one source never gives it.",
    )


def _by_genre(pair: PairAgreement) -> Table:
    first, second = _name(pair.first), _name(pair.second)
    rows: list[list[Cell]] = []
    for genre in _worst_first(pair):
        counts = pair.genres[genre]
        known = genre not in pair.one_sided
        rows.append(
            [
                genre,
                *(counts.either, counts.both, counts.first_only, counts.second_only),
                counts.jaccard if known else None,
                counts.kappa if known else None,
            ]
        )
    mean: list[Cell] = ["mean", "", "", "", "", pair.macro_jaccard, pair.macro_kappa]
    return Table(
        title=f"{_title(pair)} by genre",
        columns=("genre", "films", "both", f"{first} only", f"{second} only", "Jaccard", "kappa"),
        rows=[*rows, mean],
        bars=(5,),
        strong=(len(rows),),
        note=_genre_note(pair),
    )


def _genre_note(pair: PairAgreement) -> str:
    notes = [
        f"{_films(pair.films)} that both label. 'Films' is those that either gives the genre; "
        "Jaccard is the share of them that get it from both, kappa the agreement beyond chance."
    ]
    if IMDB in (pair.first, pair.second):
        other = _name(pair.second if pair.first == IMDB else pair.first)
        notes.append(
            f"IMDb's dataset stops at three genres a film, so some of '{other} only' is no "
            "disagreement."
        )
    notes += [
        f"{_name(source)} never gives {genre}: there is nothing to compare."
        for genre, source in pair.one_sided.items()
    ]
    return " ".join(notes)


def _by_era(pair: PairAgreement) -> Grades:
    genres = [genre for genre in _worst_first(pair) if genre in _judged(pair)]
    columns = {
        era.replace("_", " "): [_grade(counts[genre]) for genre in genres]
        for era, counts in pair.eras.items()
    }
    shown = {
        era: cells for era, cells in columns.items() if any(cell is not None for cell in cells)
    }
    empty = [era for era in columns if era not in shown]
    left_out = f" Left out, with few films of any genre: {_listed(empty)}." if empty else ""
    return Grades(
        title=f"{_title(pair)} by genre and era",
        rows=genres,
        columns=list(shown),
        values=list(zip(*shown.values(), strict=True)),
        missing="few",
        note="Jaccard; the redder, the more disputed. 'few': fewer than "
        f"{FEW_FILMS} films of the era carry the genre.{left_out}",
    )


def _statuses(statuses: Mapping[str, Mapping[str, int]]) -> Table:
    rows = [[genre, *_status_cells(counts)] for genre, counts in statuses.items()]
    rows.sort(key=lambda row: -1.0 if row[-1] is None else row[-1], reverse=True)
    return Table(
        title="What the labels' statuses add up to",
        columns=("genre", "agree", "TMDB only", "IMDb only", "unknown", "disputed"),
        rows=[*rows, ["all labels", *_status_cells(_total(statuses))]],
        bars=(5,),
        strong=(len(rows),),
        note="Labels of films. 'Unknown': the other source has no opinion on the film, or could "
        "not have said it: IMDb's list was full, or IMDb does not have the genre. 'Disputed' is "
        "the share of the others that only one source gives.",
    )


def _status_cells(counts: Mapping[str, int]) -> list[Cell]:
    disputed, settled = _disputed(counts)
    return [*(counts[name] for name in LabelStatus), disputed / settled if settled else None]


def _nothing_to_compare(agreement: LabelAgreement) -> list[Block]:
    named = _listed([f"{_name(name)} ({_films(n)})" for name, n in agreement.sources.items()])
    if not agreement.sources:
        why = "the catalog does not say which source its genres come from"
    elif len(agreement.sources) == 1:
        why = f"the catalog has labels of one source only, {named}"
    else:
        why = f"no film has labels of two sources: {named}"
    steps = [
        (
            "Cross-check with IMDb",
            "Ingest again with --imdb title.basics.tsv.gz (personal and non-commercial use; from "
            f"{DATASET_URL}). Films are found by their imdb_id.",
        ),
        (
            "Say where a folder's genres come from",
            "Give posters.csv a column for each source, such as genres_tmdb and genres_imdb.",
        ),
    ]
    return [
        Banner(outcome="inconclusive", sentence=f"Nothing to compare: {why}."),
        Table(title="What to do next", columns=("step", "how"), rows=steps),
    ]
