"""A model that is logged with files, bytes and other artifacts beside it."""

import json
import pathlib

import mlrun
from mlrun.artifacts import get_model


def log(context: mlrun.MLClientCtx, weights: list):
    folder = pathlib.Path("model")
    folder.mkdir(exist_ok=True)
    (folder / "net.json").write_text(json.dumps(weights))
    (folder / "notes.txt").write_text("trained by hand")
    curve = context.log_artifact("curve", body="step,loss\n0,1\n1,0.5\n", format="csv")
    context.log_model(
        "net",
        model_dir=str(folder),
        model_file="net.json",
        framework="hand",
        algorithm="sum",
        metrics={"loss": 0.5},
        parameters={"layers": len(weights)},
        labels={"stage": "test"},
        extra_data={"notes.txt": "notes.txt", "raw.bin": b"\x00\x01", "curve": curve},
    )
    context.log_results({"loss": 0.5, "layers": len(weights)})


def load(context: mlrun.MLClientCtx, model: mlrun.DataItem):
    path, artifact, extra = get_model(model, ".json")
    context.log_result("weights", json.loads(pathlib.Path(path).read_text()))
    context.log_result("extra", sorted(extra))
    context.log_result("notes", extra["notes.txt"].get(encoding="utf-8"))
    context.log_result("raw", list(extra["raw.bin"].get()))
    context.log_result("curve", extra["curve"].as_df().values.tolist())
    context.log_result("metrics", dict(artifact.metrics))
