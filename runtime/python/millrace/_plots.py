"""Plots: a matplotlib figure, PNG bytes, a Plotly figure or rows of numbers, stored as a page."""

from __future__ import annotations

from millrace._artifacts import Artifact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE = """
<h3 style="text-align:center">{}</h3>
<img title="{}" src="data:image/png;base64,{}">
"""
_COLOURS = ("#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477", "#66aa00")


class PlotArtifact(Artifact):
    """A matplotlib figure, or the bytes of a PNG image; title is its description."""

    kind = "plot"

    def __init__(
        self,
        key: str = "",
        body: Any = None,
        is_inline: bool = False,
        target_path: str = "",
        title: str | None = None,
    ) -> None:
        super().__init__(key, body, format="html", target_path=target_path, description=title)

    def prepare(self) -> None:
        """Refuse what is no plot."""
        self.viewer = "chart"
        body = self.body
        if isinstance(body, (bytes, bytearray, memoryview)):
            if len(body) > 0:
                return
        elif hasattr(body, "savefig"):
            return
        raise ValueError(
            "the plot %r needs a matplotlib figure or the bytes of a PNG image as its body, not %s"
            % (self.key, "no bytes" if isinstance(body, bytes) else type(body).__name__)
        )

    def get_body(self) -> str:
        """Return the page with the image in it."""
        from base64 import b64encode

        body = self.body
        if isinstance(body, str):
            return body
        if not isinstance(body, (bytes, bytearray, memoryview)):
            from io import BytesIO

            image = BytesIO()
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            FigureCanvasAgg(body).print_png(image)
            body = image.getvalue()
        return _PAGE.format(self.description or self.key, self.key, b64encode(bytes(body)).decode())


class PlotlyArtifact(Artifact):
    """A Plotly figure."""

    kind = "plotly"

    def __init__(self, figure: Any = None, key: str = "", target_path: str = "") -> None:
        super().__init__(key, viewer="plotly", format="html", target_path=target_path)
        if figure is not None and not hasattr(figure, "to_html"):
            raise TypeError(
                "PlotlyArtifact takes a figure of plotly (plotly.graph_objs.Figure), not %s" % type(figure).__name__
            )
        self._figure = figure

    def has_body(self) -> bool:
        """Say whether there is a figure."""
        return self.body is not None or self.__dict__.get("_figure") is not None

    def get_body(self) -> Any:
        """Return the figure's page."""
        figure = self.__dict__.get("_figure")
        return self.body if figure is None else figure.to_html()


class ChartArtifact(Artifact):
    """Lines drawn from rows: the first column is the x axis, each further one a line.

    Its document is that of a plot, the kind that lists of artifacts know.
    """

    kind = "plot"

    def __init__(
        self,
        key: str = "",
        data: list[list[Any]] | None = None,
        header: list[str] | None = None,
        options: dict[str, Any] | None = None,
        title: str | None = None,
        chart: str | None = None,
        target_path: str = "",
    ) -> None:
        super().__init__(key, viewer="chart", format="html", target_path=target_path, description=title)
        self.rows = [list(row) for row in data or []]
        self.header = list(header) if header else None
        if chart not in (None, "", "LineChart"):
            raise ValueError("the chart %r: %r is not drawn, LineChart is" % (key, chart))

    def has_body(self) -> bool:
        """Return True: the rows are drawn."""
        return True

    def add_row(self, row: list[Any]) -> None:
        """Add a row."""
        self.rows.append(list(row))

    def prepare(self) -> None:
        """Refuse rows that cannot be drawn."""
        if self.header is None and self.rows:
            self.header, self.rows = [str(name) for name in self.rows[0]], self.rows[1:]
        width = len(self.header or ())
        if width < 2 or not self.rows:
            raise ValueError("the chart %r needs a header of two names or more and at least one row" % self.key)
        for number, row in enumerate(self.rows):
            if len(row) != width:
                raise ValueError("row %d of the chart %r has %d values, not %d" % (number, self.key, len(row), width))
            if not all(isinstance(value, (int, float)) and value == value for value in row[1:]):
                raise ValueError("row %d of the chart %r has values that are no numbers" % (number, self.key))

    def get_body(self) -> str:
        """Return the page with the drawing in it."""
        from html import escape

        if self.body is not None:
            return str(self.body)
        header = self.header or []
        xs = [row[0] for row in self.rows]
        if not all(isinstance(x, (int, float)) and x == x for x in xs):
            xs = list(range(len(xs)))
        ys = [float(value) for row in self.rows for value in row[1:]]
        parts = []
        for at, name in enumerate(header[1:], 1):
            colour = _COLOURS[(at - 1) % len(_COLOURS)]
            points = " ".join(
                "%.2f,%.2f" % (_scale(x, xs, 60, 780), _scale(float(row[at]), ys, 360, 20))
                for x, row in zip(xs, self.rows)
            )
            parts.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (colour, points))
            parts.append('<text x="%d" y="395" fill="%s">%s</text>' % (60 + 120 * (at - 1), colour, escape(str(name))))
        for value, y in ((max(ys), 25), (min(ys), 360)):
            parts.append('<text x="4" y="%d" font-size="11">%.4g</text>' % (y, value))
        return (
            '<h3 style="text-align:center">%s</h3>\n<svg viewBox="0 0 800 400" xmlns="http://www.w3.org/2000/svg" '
            'font-family="sans-serif" font-size="13">\n'
            '<path d="M60 20V360H780" fill="none" stroke="#999"/>\n%s\n</svg>\n'
            % (escape(self.description or self.key), "\n".join(parts))
        )


def _scale(value: float, values: list[Any], low: float, high: float) -> float:
    least, most = min(values), max(values)
    share = (value - least) / (most - least) if most > least else 0.5
    return low + share * (high - low)
