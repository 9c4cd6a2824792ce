"""When a schedule of Kubeflow Pipelines fires: its cron expressions have six fields.

KFP reads them with github.com/robfig/cron 1.2, whose rules these are: seconds first, Sunday is 0,
and a day counts if it fits either the day of the month or that of the week, unless one is `*`.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from marquee.errors import UsageError

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_YEARS = 5
"""How far ahead to look: February 29th may be four years away."""
_REMEDY = (
    "give six fields, the seconds first: second minute hour day-of-month month day-of-week, such "
    "as '0 0 3 * * *' for every day at 03:00 or '0 30 6 * * MON' for Mondays at 06:30"
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Cron:
    """A cron expression of KFP.

    Args:
        text: Six fields.

    Raises:
        UsageError: It is none; the message names the field.
    """

    text: str

    def __post_init__(self) -> None:
        fields = self.text.split()
        if len(fields) != len(_FIELDS):
            raise UsageError(
                f"the cron expression {self.text!r} has {len(fields)} fields, not 6",
                remedy=_REMEDY,
            )
        if next(self.after(datetime.now(UTC)), None) is None:
            raise UsageError(f"the cron expression {self.text!r} never fires", remedy=_REMEDY)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Give the times at which it fires after a moment, in that moment's time zone."""
        seconds, minutes, hours, days, months, weekdays = self._sets()
        day_of_month, _, day_of_week = self.text.split()[3:]
        any_day = day_of_month[0] in "*?" or day_of_week[0] in "*?"
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        for number in range(_YEARS * 366):
            day = midnight + timedelta(days=number)
            fits = day.day in days, day.isoweekday() % 7 in weekdays
            if day.month not in months or not (all(fits) if any_day else any(fits)):
                continue
            for hour, minute, second in itertools.product(*map(sorted, (hours, minutes, seconds))):
                time = day.replace(hour=hour, minute=minute, second=second)
                if time > moment:
                    yield time

    def _sets(self) -> list[set[int]]:
        return [
            set().union(*(self._range(part, *field) for part in text.split(",")))
            for text, field in zip(self.text.split(), _FIELDS, strict=True)
        ]

    def _range(self, part: str, name: str, low: int, high: int, names: dict[str, int]) -> range:
        """Read `*`, `5`, `1-5`, `MON-FRI`, `*/10` or `5/10`."""
        match = re.fullmatch(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
        try:
            if not match:
                raise ValueError
            first, last, step = match.groups()
            start = _number(first, names) if first else low
            # `5/10` means from 5 on.
            end = _number(last, names) if last else start if first and not step else high
            if not low <= start <= end <= high or step == "0":
                raise ValueError
        except ValueError:
            raise UsageError(
                f"the cron expression {self.text!r} has {part!r} for the {name}, which goes from "
                f"{low} to {high}",
                remedy=_REMEDY,
            ) from None
        return range(start, end + 1, int(step or 1))


@dataclass(frozen=True)
class Every:
    """An interval of KFP, counted from when the schedule is made.

    Args:
        seconds: Its length.
    """

    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an interval such as `24h`.

        Args:
            text: A number and its unit: s, m, h or d.

        Raises:
            UsageError: It is none.
        """
        match = re.fullmatch(r"([1-9]\d*)([smhd])", text)
        if not match:
            raise UsageError(
                f"the interval {text!r} is none",
                remedy="give a whole number and s, m, h or d, such as 24h",
            )
        return cls(int(match[1]) * _UNITS[match[2]])

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Give the times at which it fires if it is made at a moment."""
        for number in itertools.count(1):
            yield moment + timedelta(seconds=number * self.seconds)


def _number(text: str, names: dict[str, int]) -> int:
    return names[text.upper()] if text.upper() in names else int(text)
