"""The same function and notebook through the stock MLRun SDK.

    pip install mlrun
    python with_mlrun.py http://127.0.0.1:8080

Nothing here knows Millrace: the script is what an MLRun user writes."""

import datetime
import pathlib
import sys
import tempfile

import mlrun

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = [
    line for line in (HERE / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]


def main(url: str, project_name: str) -> None:
    mlrun.set_environment(url)
    project = mlrun.get_or_create_project(project_name, context=tempfile.mkdtemp())

    print(f"\nwhat the command line left in project {project_name}, seen by the SDK:")
    show(project)

    options = {"project": project_name, "kind": "job", "image": "mlrun/mlrun", "requirements": REQUIREMENTS}
    train = mlrun.code_to_function("train", filename=str(HERE / "train.py"), handler="train", **options)
    run = train.run(params={"trees": 200}, auto_build=True)
    print("trained by the SDK:", run.outputs)

    explore = mlrun.code_to_function("explore", filename=str(HERE / "explore.ipynb"), handler="explore", **options)
    run = explore.run(params={"folds": 3}, auto_build=True)
    print("explored by the SDK:", run.outputs)

    print(f"\neverything in project {project_name}, seen by the SDK:")
    show(project)


def show(project) -> None:
    for function in project.list_functions() or []:
        print(f"  function {function.metadata.name:10} {function.kind:6} {function.metadata.hash[:12]}")
    # Without a filter, list_runs() asks for the newest run of each name only.
    since = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    for run in project.list_runs(start_time_from=since):
        accuracy = run["status"].get("results", {}).get("accuracy")
        print(f"  run      {run['metadata']['name']:16} {run['status']['state']:10} accuracy {accuracy}")
    for artifact in project.list_artifacts():
        print(f"  artifact {artifact['metadata']['key']:10} {artifact['spec']['target_path']}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "breast-cancer")
