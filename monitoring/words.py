"""What drifted, in words."""

from collections.abc import Callable, Mapping

from monitoring.causes import Cause
from monitoring.findings import Finding, Kind

_NAMED = 3

NEXT: Mapping[Kind, str] = {
    Kind.INPUT: "look at such posters; if they come from a new source, bring some to the catalog "
    "(a look alone is no reason to train)",
    Kind.PRIOR: "if it stays so, train on posters of the new mix",
    Kind.PREDICTION: "learn some of these films' genres (--truth): are they predicted wrongly?",
    Kind.CONCEPT: "train on films of now, and roll the model out if it beats the champion",
}
"""What to do about each kind of drift."""
SEEN = "truth is known: see below how right the model is"
"""What to do about predictions that moved, instead."""
BETTER = "nothing, if the genres that are known are right: the model is right more often"
"""What to do about a model that does better than it did, instead."""

_ADJECTIVES = {
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "flatter"),
    "saturation": ("more colourful", "paler"),
    "hue": ("of other hues", "of other hues"),
    "size": ("larger", "smaller"),
    "shape": ("wider", "narrower"),
}


def describe(cause: Cause) -> str:
    """Say what happened in a sentence without its full stop."""
    first = max(cause.findings, key=lambda finding: abs(finding.effect))
    if cause.what in _ADJECTIVES:
        return _look(cause, first)
    return _SENTENCES[cause.what.removeprefix("predicted ")](cause, first)


def listed(names: tuple[str, ...]) -> str:
    """Name some of many, such as `Horror, War, Music and 4 more`."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _rises(finding: Finding) -> bool:
    return finding.after >= finding.before


def _look(cause: Cause, first: Finding) -> str:
    word = _ADJECTIVES[cause.what][0 if _rises(first) else 1]
    where = f" in {listed(cause.slices)}" if first.era else ""
    return f"posters are {word} by {first.effect:.2f} standard deviations{where}"


def _embeddings(cause: Cause, first: Finding) -> str:
    return f"posters look different: a classifier tells them apart (AUC {0.5 + first.effect:.2f})"


def _yearless(cause: Cause, first: Finding) -> str:
    return f"{first.after:.0%} of the posters come without a year ({first.before:.0%} before)"


def _mix(cause: Cause, first: Finding) -> str:
    return f"{first.effect:.0%} of the posters are of other eras"


def _gone(cause: Cause, first: Finding) -> str:
    share = sum(finding.before for finding in cause.findings)
    return f"posters of {listed(cause.slices)} have disappeared ({share:.0%} before)"


def _come(cause: Cause, first: Finding) -> str:
    share = sum(finding.after for finding in cause.findings)
    return f"posters of {listed(cause.slices)} have appeared ({share:.0%})"


def _frequency(cause: Cause, first: Finding) -> str:
    moved = sorted(cause.findings, key=lambda finding: -abs(finding.effect))
    return f"genres are more or less frequent than they were: {_changes(moved)}"


def _chosen(cause: Cause, first: Finding) -> str:
    moved = sorted(cause.findings, key=lambda finding: -abs(finding.effect))
    return f"genres are predicted more or less often: {_changes(moved)}"


def _changes(moved: list[Finding]) -> str:
    return listed(tuple(f"{finding.genre} {finding.effect:+.0%}" for finding in moved))


def _probability(cause: Cause, first: Finding) -> str:
    direction = "rose" if _rises(first) else "fell"
    return (
        f"probabilities of {listed(cause.slices)} {direction} "
        f"(mean {first.before:.2f} to {first.after:.2f})"
    )


def _unsure(cause: Cause, first: Finding) -> str:
    often = "more" if _rises(first) else "less"
    where = f" about {listed(cause.slices)}" if cause.slices else ""
    return f"the model is {often} often unsure{where} ({first.before:.0%} to {first.after:.0%})"


def _precision(cause: Cause, first: Finding) -> str:
    how = "better" if _rises(first) else "less well"
    return (
        f"{listed(cause.slices)} {'is' if len(cause.slices) == 1 else 'are'} recognised {how} "
        f"(average precision {first.before:.2f} to {first.after:.2f})"
    )


def _calibration(cause: Cause, first: Finding) -> str:
    how = "too cautious" if first.after > 1 else "too sure"
    return f"probabilities are {how}: truth follows them with a slope of {first.after:.2f}"


_SENTENCES: Mapping[str, Callable[[Cause, Finding], str]] = {
    "embeddings": _embeddings,
    "without a year": _yearless,
    "era mix": _mix,
    "disappeared": _gone,
    "appeared": _come,
    "frequency": _frequency,
    "chosen": _chosen,
    "probability": _probability,
    "unsure": _unsure,
    "average precision": _precision,
    "calibration": _calibration,
}
