"""Puts the rules to Great Expectations, and its answers into words."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.validate.expectations import Rule  # first: it keeps Great Expectations quiet

# isort: split
import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.metadata_types import FailureSeverity

from marquee.report.charts import number_text
from marquee.verdict import Check, Outcome

# It announces its temporary folders.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

_BLAMED = 100
"""Rows that a check names; all are in `failures.csv`."""
_QUOTED = 6
"""Values that a sentence quotes."""
_TELLING = (
    *("year", "genre_count", "unknown_genre", "unmeasured", "short_side", "mode"),
    *("licence", "obstacle"),
)
"""Columns whose values say what is wrong; of others it is enough to count the rows."""
_COMPLETE = {"result_format": "COMPLETE", "return_unexpected_index_query": False}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of a rule."""

    theme: str
    check: Check
    failures: pd.DataFrame
    """The rows that break it: `row` (a poster's id, a genre...) and its `value`."""


class Suite:
    """Judges tables, and remembers what it judged for the Data Docs.

    Args:
        subject: What is judged, for the Data Docs.
        now: When.
    """

    def __init__(self, subject: str, now: datetime) -> None:
        self._run = RunIdentifier(run_name=subject.replace(" ", "-")[:20], run_time=now)
        self._tables: list[str] = []
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = self._context.data_sources.add_pandas("catalog").add_dataframe_asset("table")
        self._data = asset.add_batch_definition_whole_dataframe("all")

    def run(
        self, themes: Mapping[str, list[Rule]], tables: Mapping[str, pd.DataFrame]
    ) -> list[Finding]:
        """Judge tables.

        Args:
            themes: Rules by theme.
            tables: What the rules look at; a table's first column names its rows.

        Returns:
            One finding a rule, in the order of the rules.
        """
        rules = {rule.name: (theme, rule) for theme, of_it in themes.items() for rule in of_it}
        found: dict[str, Finding] = {}
        for table in dict.fromkeys(rule.table for _, rule in rules.values()):
            here = {name: pair for name, pair in rules.items() if pair[1].table == table}
            frame = tables[table].reset_index(drop=True)
            found |= {item.check.name: item for item in self._judge(table, frame, here)}
        return [found[name] for name in rules]

    def _judge(
        self, table: str, frame: pd.DataFrame, rules: dict[str, tuple[str, Rule]]
    ) -> Iterator[Finding]:
        expectations = {name: _described(*pair) for name, pair in rules.items()}
        suite = gx.ExpectationSuite(name=table, expectations=list(expectations.values()))
        suite = self._context.suites.add(suite)
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=table, data=self._data, suite=suite)
        )
        parameters = {"dataframe": frame}
        results: list[Any] = definition.run(
            batch_parameters=parameters, result_format="BASIC", run_id=self._run
        ).results
        self._tables.append(table)
        for result in results:
            name = result.expectation_config.meta["name"]
            rows: list[int] = []
            if not result.success and "unexpected_count" in result.result:
                # All rows are asked for one rule at a time, and only where they matter: the lists
                # may be long.
                batch = self._data.get_batch(parameters)
                full = batch.validate(expectations[name], result_format=_COMPLETE)
                rows = full.result["unexpected_index_list"]
            yield _finding(*rules[name], frame, result, frame.iloc[rows])

    @property
    def pages(self) -> dict[str, str]:
        """Where the Data Docs show the results of each table; their index needs a network."""
        folder = f"{self._run.run_name}/{self._run.run_time:%Y%m%dT%H%M%S.%fZ}"
        return {table: f"validations/{table}/{folder}/catalog-table.html" for table in self._tables}

    def write_docs(self, folder: Path) -> None:
        """Write the Data Docs of what was judged: a static site of Great Expectations' own.

        Args:
            folder: Where `index.html` goes.
        """
        site: Any = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder),
            },
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        self._context.update_data_docs_site("local_site", site)
        self._context.build_data_docs()


def _described(theme: str, rule: Rule) -> gxe.Expectation:
    return rule.expectation.copy(
        update={
            "severity": FailureSeverity(rule.severity.value),
            "description": f"{rule.name}: {_bound(rule)} ({rule.severity})",
            "meta": {"name": rule.name, "theme": theme},
        }
    )


def _finding(
    theme: str, rule: Rule, frame: pd.DataFrame, result: Any, failures: pd.DataFrame
) -> Finding:
    if rule.table != "posters":
        failures = _worst_first(rule, failures)
    names = failures.iloc[:, 0].astype(str)
    check = Check(
        name=rule.name,
        outcome=Outcome.PASSED if result.success else Outcome.FAILED,
        severity=rule.severity,
        measured=_measured(rule, frame, result, failures),
        bound=_bound(rule),
        blame=tuple(names[:_BLAMED]),
        blamed=len(names),
        remedy="" if result.success else rule.remedy,
    )
    values = failures[_column(rule)] if _column(rule) else names
    broken = pd.DataFrame({"row": names, "value": values})
    return Finding(theme=theme, check=check, failures=broken)


def _column(rule: Rule) -> str:
    """Name the column that a rule looks at; a rule on the whole table has none."""
    expectation = rule.expectation
    return getattr(expectation, "column", "") or getattr(expectation, "column_A", "")


def _worst_first(rule: Rule, rows: pd.DataFrame) -> pd.DataFrame:
    lowest_first = getattr(rule.expectation, "min_value", None) is not None
    return rows.sort_values(_column(rule), ascending=lowest_first)


def _measured(rule: Rule, frame: pd.DataFrame, result: Any, failures: pd.DataFrame) -> str:
    """Say what was found."""
    found = result.result
    if "observed_value" in found:
        value = found["observed_value"]
        return "nothing to measure" if value is None else _text(value, rule.unit)
    if "unexpected_count" not in found:
        return f"could not be judged: {result.exception_info}"
    if rule.table != "posters":
        return _slices(rule, frame, failures)
    count, total = found["unexpected_count"], found["element_count"]
    if not count:
        return f"0 of {total:,}"
    share = number_text(count / total, percent=True) if count / total > 0.001 else "under 0.1%"
    text = f"{count:,} of {total:,} ({share})"
    return f"{text}: {_quote(failures[_column(rule)])}" if _column(rule) in _TELLING else text


def _quote(values: pd.Series) -> str:
    """Give the span of numbers, or the commonest texts, each line of them once."""
    if pd.api.types.is_numeric_dtype(values):
        return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (values.min(), values.max())))
    lines = dict.fromkeys(line for text in values.value_counts().index for line in text.split("\n"))
    return "; ".join([*list(lines)[:_QUOTED], *(["..."] if len(lines) > _QUOTED else [])])


def _slices(rule: Rule, frame: pd.DataFrame, failures: pd.DataFrame) -> str:
    """Name the slices that break a rule, or else the one that is nearest to it."""
    column = _column(rule)
    nearest = _worst_first(rule, frame.dropna(subset=column)).head(1)
    if nearest.empty:
        return "nothing to compare"
    if failures.empty and not pd.api.types.is_numeric_dtype(nearest[column]):
        return f"0 of {len(frame):,}"
    shown = nearest if failures.empty else failures.head(_QUOTED)
    names = shown.iloc[:, 0].astype(str).str.replace("_", " ")
    unit = rule.unit if rule.unit == "%" else ""
    texts = [f"{name} {_text(v, unit)}" for name, v in zip(names, shown[column], strict=True)]
    more = len(failures) - len(shown)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _bound(rule: Rule) -> str:
    """Say what a rule asks for."""
    expectation = rule.expectation
    low, high = (getattr(expectation, name, None) for name in ("min_value", "max_value"))
    if low is not None and high is not None:
        text = f"{_text(low, rule.unit).removesuffix(rule.unit).rstrip()} to "
        text += _text(high, rule.unit)
    elif low is not None:
        text = f"at least {_text(low, rule.unit)}"
    elif high == 0:
        text = "none"
    elif high is not None:
        text = f"at most {_text(high, rule.unit)}"
    else:
        values = [str(value) for value in getattr(expectation, "value_set", ())]
        text = _WORDS[type(expectation)].format(" nor ".join(values))
    mostly = float(getattr(expectation, "mostly", 1.0))
    return text if mostly == 1 else f"{text} for {number_text(mostly, percent=True)} of them"


_WORDS: dict[type[gxe.Expectation], str] = {
    gxe.ExpectColumnPairValuesToBeEqual: "as in the catalog's schema",
    gxe.ExpectColumnValuesToBeUnique: "each only once",
    gxe.ExpectColumnValuesToNotBeNull: "present",
    gxe.ExpectColumnValuesToBeNull: "none",
    gxe.ExpectColumnValuesToMatchRegex: "64 hexadecimal digits",
    gxe.ExpectColumnValuesToBeInSet: "{}",
    gxe.ExpectColumnValuesToNotBeInSet: "neither {}",
}


def _text(value: Any, unit: str) -> str:
    """Write a value with its unit."""
    if isinstance(value, str):
        return value
    if unit == "year":
        return f"{value:.0f}"
    number = number_text(float(value), percent=unit == "%")
    return number if unit in ("", "%") else f"{number} {unit}"
