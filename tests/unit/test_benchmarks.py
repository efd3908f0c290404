"""The pure parts of the benchmarks: a median or a plot that is wrong would go unnoticed for long."""

import xml.etree.ElementTree as ET

import pytest
from benchmarks.figures import Run, figure, hot_limit, percentile, ratio, summary, table
from benchmarks.plot import Bar, bars, lines
from benchmarks.report import Goal


def a_run(contender: str, rate: float, *, rows: int = 1_000) -> Run:
    return Run(contender, 1, rows, rows / rate, cpu_seconds=0.02, redis_cpu_seconds=0.01, calls=rows // 100)


def test_a_ratio_compares_runs_of_one_round() -> None:
    """A machine that is slow for a whole round slows both; taken over all rounds it would look like a difference."""
    rounds = [
        {"ours": a_run("ours", 1_000), "theirs": a_run("theirs", 100)},
        {"ours": a_run("ours", 200), "theirs": a_run("theirs", 20)},
        {"ours": a_run("ours", 900), "theirs": a_run("theirs", 90)},
    ]
    assert ratio(rounds, "ours", "theirs") == pytest.approx(10)


def test_a_summary_is_the_median_with_its_range() -> None:
    told = summary([a_run("ours", rate) for rate in (100, 900, 200)])
    assert (told.rate, told.lowest, told.highest) == pytest.approx((200, 100, 900))
    assert told.rows_a_call == 100
    assert told.cpu_ms_a_thousand == pytest.approx(30)
    assert told.redis_ms_a_thousand == pytest.approx(10)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_a_value_that_occurred(share: float, value: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == value


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_each_begun_second_allows_one_row_of_each_hot_key() -> None:
    assert hot_limit(1_000, 9.2) == 10_000


@pytest.mark.parametrize(
    ("number", "text"),
    [(123_456, "123,000"), (1_234, "1,230"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_figures_show_what_means_something(number: float, text: str) -> None:
    assert figure(number) == text


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(("a", "b"), [("x", 1), ("y", 2)]) == "| a | b |\n|---|---:|\n| x | 1 |\n| y | 2 |"


@pytest.mark.parametrize(
    ("goal", "word"),
    [
        (Goal("", 26, 10, 25), "aim reached"),
        (Goal("", 11, 10, 25), "reached"),
        (Goal("", 9, 10, 25), "**missed**"),
        (Goal("", 289, 450, 300, at_most=True), "aim reached"),
        (Goal("", 451, 450, 300, at_most=True), "**missed**"),
        (Goal("", 1.1, 1.2, at_most=True), "reached"),
    ],
)
def test_a_goal_tells_whether_it_is_reached(goal: Goal, word: str) -> None:
    assert goal.reached == word


def test_bars_are_as_long_as_their_values() -> None:
    plot = ET.fromstring(bars("rows & more", [Bar("ours", 200, ours=True), Bar("theirs", 100)]))
    widths = [float(rect.attrib["width"]) for rect in plot.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert widths[0] == pytest.approx(2 * widths[1])


def test_lines_have_a_point_for_each_tick() -> None:
    plot = ET.fromstring(lines("calls", [1, 2, 4], {"a": [60, 60, 60], "b": [60, 120, 240]}, ours="a", below="workers"))
    assert len(list(plot.iter("{http://www.w3.org/2000/svg}circle"))) == 6
