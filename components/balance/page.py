"""A split plan as a page for people: distributions before and after."""

from marquee.report import Banner, Heatmap, Table, Tiles, render
from marquee.split import SPLITS, SplitPlan

_COLUMNS = ("count", "before", *SPLITS, "train_weighted")


def balance_page(plan: SplitPlan) -> str:
    """Render a split plan.

    Args:
        plan: The plan.

    Returns:
        HTML that stands alone.
    """
    balance = plan.balance
    years = balance["years"]
    counts = [[row.get(name, 0) for name in SPLITS] for row in years.values()]
    blocks = (
        Banner(
            outcome="note",
            sentence=f"{balance['posters']:,} posters in {balance['groups']:,} groups of films; "
            f"{balance['left_out']:,} without a genre of {plan.label_set} are left out. Films, "
            "collections and near-duplicate posters never straddle two splits.",
        ),
        Tiles(
            tiles=[
                (name, f"{count:,}", f"{count / balance['posters']:.1%}")
                for name, count in balance["splits"].items()
            ]
        ),
        _distribution("Genres, before and after", balance["genres"]),
        _distribution("Eras, before and after", balance["eras"]),
        Heatmap(
            title="Posters by decade",
            rows=list(years),
            columns=SPLITS,
            values=counts,
            totals=[sum(row) for row in counts],
        ),
    )
    return render("Balance", f"{plan.label_set}, catalog {balance['catalog_digest'][:12]}", blocks)


def _distribution(title: str, shares: dict[str, dict[str, float]]) -> Table:
    return Table(
        title=title,
        columns=("", *(name.replace("_", " ") for name in _COLUMNS)),
        rows=[
            [name.replace("_", " "), *(row[column] for column in _COLUMNS)]
            for name, row in shares.items()
        ],
        note="Shares of posters. 'Train weighted' is what the weights in the split plan make of "
        "the training split; validation and test keep the natural distribution.",
    )
