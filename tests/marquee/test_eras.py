import pytest

from marquee.eras import ERAS, era_of


@pytest.mark.parametrize(
    ("year", "era"),
    [
        (1894, "silent"),
        (1929, "silent"),
        (1930, "golden_age"),
        (1959, "golden_age"),
        (1960, "new_hollywood"),
        (1980, "painted_blockbuster"),
        (1990, "photographic"),
        (2000, "digital"),
        (2010, "streaming"),
        (2019, "streaming"),
        (2020, "current"),
    ],
)
def test_eras_are_half_open(year, era):
    assert era_of(year) == era
    assert era in ERAS
