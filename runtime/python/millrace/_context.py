"""The run as its code sees it.

A context holds one run document (or one child of it) and sends every change as
an emission at once, so that a killed process loses nothing that was logged.
"""

from __future__ import annotations

from millrace import _values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from millrace._artifacts import Artifact
    from millrace._data import DataItem
    from millrace._log import Logger

# Of mlrun's context, what needs the package.
_NOT_HERE = (
    "affinity", "auth", "from_dict", "get_notifications", "handler", "log_code_file", "log_iteration_results",
    "log_llm_prompt", "tolerations",
)  # fmt: skip

_current: MLClientCtx | None = None


def _drop(record: dict[str, Any]) -> None:
    """Send nothing: the context is not part of a run."""


def current(name: str) -> MLClientCtx:
    """Return the context of this process, made on first use outside of a run."""
    global _current
    if _current is None:
        _current = MLClientCtx({"metadata": {"name": name or "run"}}, _drop)
    return _current


def set_current(context: MLClientCtx | None) -> None:
    """Make context the one that current returns."""
    global _current
    _current = context


class MLClientCtx:
    """The context of one execution; see the property and method comments.

    document is the run (metadata, spec, status); emit takes the records of the
    run's journal; overlay replaces iteration, parameters or inputs.
    """

    kind = "run"

    def __init__(
        self,
        document: dict[str, Any],
        emit: Callable[[dict[str, Any]], None],
        *,
        iteration: int | None = None,
        parameters: dict[str, Any] | None = None,
        inputs: dict[str, str] | None = None,
        parent: MLClientCtx | None = None,
    ) -> None:
        metadata = document.get("metadata") or {}
        spec = document.get("spec") or {}
        self._document = document
        self._emit = emit
        self._parent = parent
        self._children: list[MLClientCtx] = []
        self._best = 0
        self._table_sent = True
        self._iteration: int = int(metadata.get("iteration") or 0) if iteration is None else iteration
        self.name: str = metadata.get("name") or ""
        self.artifact_path: str = spec.get("output_path") or ""
        self._parameters: dict[str, Any] = dict(spec.get("parameters") or {})
        if parameters:
            self._parameters.update(parameters)
        self._inputs: dict[str, str] = {}
        self._hints: dict[str, str] = {}
        for key, url in (spec.get("inputs") or {}).items() if inputs is None else inputs.items():
            name, _, hint = key.partition(":")
            self._inputs[name.strip()] = url
            if hint:
                self._hints[name.strip()] = hint.strip()
        self._labels: dict[str, str] = dict(metadata.get("labels") or {})
        self._annotations: dict[str, str] = dict(metadata.get("annotations") or {})
        self._results: dict[str, Any] = {}
        self._artifacts: dict[str, Artifact] = {}
        self._state = "running"
        self._error: str | None = None
        self._items: dict[str, DataItem] = {}
        self._logger: Logger | None = None

    # -- what the run is

    @property
    def uid(self) -> str:
        """The run's uid, with "-<iteration>" for a child."""
        uid: str = (self._document.get("metadata") or {}).get("uid") or ""
        return "%s-%d" % (uid, self._iteration) if self._iteration else uid

    @property
    def tag(self) -> str:
        """The workflow's id, else the bare uid; artifacts belong to this tree."""
        return self._labels.get("workflow") or (self._document.get("metadata") or {}).get("uid") or ""

    @property
    def project(self) -> str:
        """The project's name."""
        return (self._document.get("metadata") or {}).get("project") or "default"

    @property
    def iteration(self) -> int:
        """0, or the number of this child run."""
        return self._iteration

    @property
    def state(self) -> str:
        """running, completed, error or what set_state said."""
        return self._state

    @property
    def parameters(self) -> dict[str, Any]:
        """A copy of the parameters."""
        return dict(_values.copy(self._parameters))

    @property
    def inputs(self) -> dict[str, str]:
        """The inputs' URLs; changes to the dict are seen by get_input."""
        return self._inputs

    @property
    def results(self) -> dict[str, Any]:
        """A copy of what was logged so far."""
        return dict(_values.copy(self._results))

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """Copies of the documents of the artifacts logged so far."""
        return [artifact.to_dict() for artifact in self._artifacts.values()]

    @property
    def artifact_uris(self) -> dict[str, str]:
        """The store:// URIs of the artifacts logged so far, by their keys."""
        return {key: artifact.uri for key, artifact in self._artifacts.items() if artifact.db_key}

    @property
    def host(self) -> str:
        """The machine of the run, as its label has it; "" if it has none."""
        return self._labels.get("host", "")

    @property
    def labels(self) -> dict[str, str]:
        """A copy of the labels."""
        return dict(self._labels)

    @property
    def annotations(self) -> dict[str, str]:
        """A copy of the annotations."""
        return dict(self._annotations)

    @property
    def node_selector(self) -> dict[str, str]:
        """A copy of the run's node selector."""
        return dict((self._document.get("spec") or {}).get("node_selector") or {})

    @property
    def in_path(self) -> str:
        """What relative input URLs are relative to."""
        return (self._document.get("spec") or {}).get("input_path") or ""

    @property
    def out_path(self) -> str:
        """The old name of artifact_path."""
        return self.artifact_path

    @property
    def logger(self) -> Logger:
        """The structured logger; its lines go to standard output, into the run's log."""
        if self._logger is None:
            from millrace._log import Logger

            self._logger = self._parent.logger if self._parent else Logger(self._level())
        return self._logger

    def _level(self) -> str:
        spec = self._document.get("spec") or {}
        return "debug" if spec.get("verbose") else spec.get("log_level") or "info"

    @property
    def log_level(self) -> str:
        """The lowest level that the logger writes."""
        return self.logger.level

    @log_level.setter
    def log_level(self, level: str) -> None:
        self.logger.set_logger_level(level)

    # -- parameters, inputs, secrets

    def get_param(self, key: str, default: Any = None) -> Any:
        """Return a parameter; an absent one is recorded with its default."""
        if key not in self._parameters:
            self._parameters[key] = default
            if default:
                self._update("parameters", {key: _values.plain(default)})
        return self._parameters[key]

    def get_input(self, key: str, url: str = "") -> DataItem:
        """Return an input; an absent one is recorded with url, or with its key as the URL."""
        if key in self._items and self._items[key].url_given == self._inputs.get(key):
            return self._items[key]
        if key not in self._inputs:
            self._inputs[key] = url or key
            self._update("inputs", {key: self._inputs[key]})
        from millrace._data import DataItem

        item = DataItem(key, self._inputs[key], self.in_path, self._read)
        self._items[key] = item
        return item

    def _read(self, item: DataItem, size: int | None, digest: str | None) -> None:
        from millrace import _reading

        _reading.record(self, item, size, digest)

    def get_dataitem(self, url: str, secrets: dict[str, str] | None = None) -> DataItem:
        """Return the data at url without recording it as an input; secrets are credentials before those of the run."""
        from millrace._data import DataItem

        return DataItem("", url, secrets=secrets)

    def get_secret(self, key: str) -> str | None:
        """Return a secret of the run, or of the environment as KEY or MLRUN_K8S_SECRET__KEY; None if there is none."""
        from millrace._secrets import lookup

        return lookup(self._document, key)

    def get_project_object(self) -> Any:
        """Return what is known of the run's project: its name and artifact path."""
        from millrace import _facade

        return _facade.load("mlrun.projects").get_current_project(silent=True)

    def get_project_param(self, key: str, default: Any = None) -> Any:
        """Return default: a worker does not know its project's parameters."""
        return default

    def artifact_subpath(self, *parts: str) -> str:
        """Join parts to artifact_path."""
        import os

        return os.path.join(self.artifact_path, *parts)

    # -- what the run says about itself

    def log_result(self, key: str, value: Any, commit: bool = False) -> None:
        """Record one result; see millrace._values.cast for what becomes of other types."""
        name, stored = str(key), _values.cast(value)
        self._update("results", {name: stored})
        self._results[name] = stored

    def log_results(self, results: dict[str, Any], commit: bool = False) -> None:
        """Record several results."""
        if not isinstance(results, dict):
            raise TypeError("log_results takes a dict of results, not %s" % type(results).__name__)
        stored = {str(key): _values.cast(value) for key, value in results.items()}
        if stored:
            self._update("results", stored)
            self._results.update(stored)

    def set_label(self, key: str, value: Any, replace: bool = True) -> None:
        """Set a label to the text of value; with replace=False only if it is absent."""
        if replace or key not in self._labels:
            self._update("labels", {str(key): str(value)})
            self._labels[str(key)] = str(value)

    def set_annotation(self, key: str, value: Any, replace: bool = True) -> None:
        """Set an annotation to the text of value; with replace=False only if it is absent."""
        if replace or key not in self._annotations:
            self._update("annotations", {str(key): str(value)})
            self._annotations[str(key)] = str(value)

    def set_state(self, execution_state: str | None = None, error: Any = None, commit: bool = True) -> None:
        """Set the outcome. An error wins over everything before and after it."""
        if error is not None:
            from millrace._errors import text_of

            self._state = "error"
            self._error = text_of(error) if isinstance(error, BaseException) else str(error)
        elif execution_state and self._state != "error":
            self._state = execution_state
        else:
            return
        if commit and self._parent is not None:
            self._send_state()

    def set_hostname(self, host: str) -> None:
        """Record the host as label."""
        self.set_label("host", host)

    def set_logger_stream(self, stream: Any) -> None:
        """Send the logger's lines to stream."""
        self.logger.stream = stream

    def is_logging_worker(self) -> bool:
        """Return True: one worker executes this run."""
        return True

    def commit(self, message: str = "", completed: bool = False) -> None:
        """Record message as annotation; with completed, end a child (or all of them)."""
        if message:
            self.set_annotation("message", message)
        if completed and self._state == "running":
            self._state = "completed"
            if self._parent is not None:
                self._send_state()
                self._parent._table_sent = False
        for child in self._children:
            if child._state == "running":
                child.commit(completed=completed)
        if completed and not self._table_sent:
            from millrace import _children

            _children.send_table(self)

    def store_run(self) -> None:
        """Do nothing: every change has been sent already."""

    update_run = store_run

    # -- artifacts

    def log_artifact(self, item: Any, body: Any = None, *arguments: Any, **options: Any) -> Artifact:
        """Write or copy a file or folder under artifact_path and record it; see millrace._placing.log."""
        from millrace import _placing

        return self.update_artifact(_placing.log(self, item, body, *arguments, **options))

    def log_dataset(self, key: str, df: Any = None, *arguments: Any, **options: Any) -> Artifact:
        """Write a table and record it with preview, schema and statistics; see millrace._datasets.log."""
        from millrace import _datasets

        return self.update_artifact(_datasets.log(self, key, df, *arguments, **options))

    def log_model(self, key: str, body: Any = None, *arguments: Any, **options: Any) -> Artifact:
        """Write a model and record it with what is known about it; see millrace._models.log."""
        from millrace import _models

        return self.update_artifact(_models.log(self, key, body, *arguments, **options))

    def log_document(self, key: str = "", *arguments: Any, **options: Any) -> Artifact:
        """Record a document and its loader; see millrace._documents.log."""
        from millrace import _documents

        return self.update_artifact(_documents.log(self, key, *arguments, **options))

    def update_model(self, model_artifact: Any, *arguments: Any, **options: Any) -> Artifact:
        """Add to what is recorded about a model; see millrace._models.update_model."""
        from millrace import _models

        return _models.update_model(self, model_artifact, *arguments, **options)

    def get_model(self, model_dir: Any, suffix: str = "") -> tuple[str, Artifact | None, dict[str, Any]]:
        """Return a model's local file, its artifact and its extra data; see millrace._models.get_model."""
        from millrace import _models

        return _models.get_model(model_dir, suffix)

    def get_store_resource(self, url: str, secrets: dict[str, str] | None = None) -> Any:
        """Return the artifact that a store:// URI names; a DataItem for other URLs."""
        item = self.get_dataitem(url, secrets)
        return item.meta if url.startswith("store://") else item

    def get_artifact(
        self, key: str, tag: str | None = None, iter: int | None = None, tree: str | None = None, uid: str | None = None
    ) -> Artifact:
        """Return an artifact logged by this context, by its key; else one of the project, by the key of its record."""
        parts = (("#", iter), (":", tag), ("@", tree), ("^", uid))
        more = "".join("%s%s" % (mark, value) for mark, value in parts if value not in (None, ""))
        if key in self._artifacts and not more:
            return self._artifacts[key]
        found: Artifact = self.get_store_resource("store://artifacts/%s/%s%s" % (self.project, key, more))
        return found

    def get_cached_artifact(self, key: str) -> Artifact:
        """Return an artifact logged by this context; KeyError if there is none."""
        return self._artifacts[key]

    def update_artifact(self, artifact: Artifact) -> Artifact:
        """Record a changed artifact again; its file stays as it is. Without a db_key it is the run's alone."""
        if artifact.project and artifact.project != self.project:
            raise ValueError(
                "the artifact %r belongs to the project %s; a run of %s records its own project's artifacts only"
                % (artifact.key, artifact.project, self.project)
            )
        if artifact.db_key:
            record: dict[str, Any] = {"t": "artifact", "iter": self._iteration, "key": artifact.key}
            if artifact.digest:
                record.update(digest=artifact.digest, size=artifact.size)
            self._emit(dict(record, doc=artifact.to_dict()))
        self._artifacts[artifact.key] = artifact
        return artifact

    # -- children

    def get_child_context(self, with_parent_params: bool = False, **params: Any) -> MLClientCtx:
        """Start a child run with params, numbered from 1; with_parent_params keeps the parent's as well."""
        from millrace import _children

        return _children.start(self, with_parent_params, params)

    def mark_as_best(self) -> None:
        """Make this child the parent's best: its results and artifacts become the parent's."""
        from millrace import _children

        if self._parent is None:
            raise ValueError("mark_as_best is for child contexts; make one with get_child_context")
        _children.adopt(self._parent, self)

    def update_child_iterations(self, best_run: int = 0, commit_children: bool = False, completed: bool = True) -> None:
        """Send the table of the children; best_run is the number of the best one, 0 for none."""
        from millrace import _children

        _children.update(self, best_run, commit_children, completed)

    # -- serialisation

    def get_meta(self) -> dict[str, Any]:
        """Return how artifacts name this run as their producer."""
        from millrace import _documented

        return _documented.producer(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as a document, with what was logged so far."""
        from millrace import _documented

        return _documented.document(self)

    def to_json(self) -> str:
        """Return to_dict() as JSON."""
        from millrace import _json

        return _json.dumps(self.to_dict())

    def to_yaml(self) -> str:
        """Return to_dict() as YAML (in its JSON form)."""
        import json

        return json.dumps(self.to_dict(), indent=2, default=str) + "\n"

    def __enter__(self) -> MLClientCtx:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self.set_state(error=error, commit=False)
            if self._parent is not None:
                self._send_state()
        self.commit(completed=True)

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_HERE:
            from millrace import _facade

            raise AttributeError(_facade.sentence("MLClientCtx.%s" % name))
        raise AttributeError("the context has no attribute %r" % name)

    # -- emissions

    def _update(self, what: str, values: dict[str, Any]) -> None:
        self._emit({"t": "update", "iter": self._iteration, what: values})

    def _send_state(self) -> None:
        record: dict[str, Any] = {"t": "child", "iter": self._iteration, "state": self._state}
        if self._error is not None:
            record["error"] = self._error
        self._emit(record)


Context = MLClientCtx
