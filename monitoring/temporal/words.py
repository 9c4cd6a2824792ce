"""How eras, trends and figures are written for people."""

from collections.abc import Sequence

from monitoring.temporal.trends import Interval, Trend

TOO_FEW = "too few"

_WORDS = {
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "saturation": ("more colourful", "paler"),
    "warmth": ("warmer", "colder"),
    "blue": ("bluer", "less blue"),
    "busyness": ("busier", "calmer"),
    "light_top": ("lit more at the top", "lit more at the foot"),
    "busy_top": ("busier at the top", "busier at the foot"),
    "light_centre": ("lit more in the middle", "lit more at the margin"),
    "symmetry": ("more symmetric", "less symmetric"),
}


def era_words(name: str) -> str:
    """Write an era's name for people."""
    return name.replace("_", " ")


def looks_words(trend: Trend) -> str:
    """Say which way posters went, such as `darker`; for a trend that is clear."""
    return _WORDS[trend.name][trend.direction == "falls"]


def age_words(eras_ago: int) -> str:
    """Say how long before an era a head stopped learning."""
    if eras_ago == 0:
        return "until the era began"
    return f"until {eras_ago} era{'s' if eras_ago > 1 else ''} earlier"


def listed(words: Sequence[str]) -> str:
    """Join words by commas and an `and`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def interval_text(values: Interval | None) -> str:
    """Write a value and half its interval, such as `.526 ± .009`, without a break."""
    if values is None:
        return TOO_FEW
    return " ± ".join([short(values[0]), short((values[2] - values[1]) / 2)]).replace(" ", "\u00a0")


def short(value: float) -> str:
    """Write a number below 1 with three decimals and no zero before them."""
    return f"{value:.3f}".replace("0.", ".", 1)
