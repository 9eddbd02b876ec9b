"""Charts of several kinds, with files beside them."""

import mlrun
import mlrun.artifacts as arts
import plotly.express as px


def draw(context, points: dict, title="points"):
    figure = px.scatter(x=points["x"], y=points["y"], title=title)
    plot = arts.PlotlyArtifact(figure=figure, key=title)
    context.log_artifact(plot, artifact_path=context.artifact_subpath("plots"))
    context.log_artifact("page", body=f"<b>{title}</b>", format="html")
    context.log_artifact(arts.Artifact(key="note", body="seen", is_inline=True))
    context.log_artifact("raw", body=bytes(range(8)), local_path="raw.bin", tag="v1")
    kinds = [plot.kind, isinstance(plot, mlrun.artifacts.PlotlyArtifact), isinstance(plot, arts.Artifact)]
    context.log_result("kinds", kinds)
