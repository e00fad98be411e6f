"""One SVG per workload: a bar for each server, a panel for each plotted figure, with the spread of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .results import Column, Outcome
from .ring import OURS

OURS_COLOUR, PEER_COLOUR = "#b3202a", "#8c9aa8"  # pillar-box red; what it is compared with stays grey
PANEL_INCHES = 5.0
BAR_INCHES = 0.42
LABEL_ROOM = 1.15  # times the longest bar


def draw_all(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Remove the plots of an earlier run, and write these."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "pillarbox"})
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for outcome in outcomes:
        _draw(outcome, folder / f"{outcome.key}.svg")


def _draw(outcome: Outcome, path: Path) -> None:
    from matplotlib import pyplot

    columns = [column for column in outcome.columns if column.plotted]
    height = 0.9 + BAR_INCHES * len(outcome.samples)
    figure, panels = pyplot.subplots(
        1, len(columns), figsize=(PANEL_INCHES * len(columns), height), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, column in zip(panels[0], columns, strict=True):
        _draw_panel(panel, outcome, column)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _draw_panel(panel: object, outcome: Outcome, column: Column) -> None:
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    servers = [server for server in outcome.samples if outcome.values(server, column.key)]
    medians = [outcome.median(server, column.key) or 0.0 for server in servers]
    spans = [outcome.values(server, column.key) for server in servers]
    below = [median - min(values) for median, values in zip(medians, spans, strict=True)]
    above = [max(values) - median for median, values in zip(medians, spans, strict=True)]
    colours = [OURS_COLOUR if server == OURS else PEER_COLOUR for server in servers]
    panel.barh(servers, medians, color=colours, xerr=(below, above), ecolor="#333333", capsize=3, height=0.65)
    for row, (median, values) in enumerate(zip(medians, spans, strict=True)):
        panel.annotate(
            f"{median:,.{column.digits}f}", (max(values), row), (6, 0), textcoords="offset points", va="center"
        )
    panel.set_title(column.title, loc="left", fontsize=10)
    panel.set_xlim(0, max(map(max, spans), default=1.0) * LABEL_ROOM)
    panel.spines[["top", "right"]].set_visible(False)
    if not panel.yaxis_inverted():
        panel.invert_yaxis()
