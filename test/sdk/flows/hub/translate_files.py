"""Work on a folder of files, with a logger that the module gets when it is loaded; results by log hints."""

import logging
import pathlib
import tempfile

import pandas as pd

try:
    import mlrun

    LOGGER = mlrun.get_or_create_ctx("translate").logger
except ModuleNotFoundError:
    LOGGER = logging.getLogger()


def workers():
    context = mlrun.get_or_create_ctx(name="mlrun")
    return "mpi" if context.labels.get("kind", "job") == "mpijob" else "one"


def translate(data_path: str, suffix: str = ".up", verbose: bool = False):
    if verbose:
        LOGGER.info("Collecting text files.")
    source = pathlib.Path(data_path)
    target = pathlib.Path(tempfile.mkdtemp())
    rows, errors = [], {"workers": workers(), "secret": mlrun.get_or_create_ctx("x").get_secret("NO_SUCH_SECRET")}
    for path in sorted(source.glob("*.*")) if source.is_dir() else [source]:
        try:
            text = path.read_text(encoding="ascii")
        except ValueError as error:
            LOGGER.warning(f"Error in file: {path.name}")
            errors[path.name] = type(error).__name__
            continue
        (target / (path.stem + suffix + ".txt")).write_text(text.upper())
        rows.append([path.name, path.stem + suffix + ".txt"])
    return str(target), pd.DataFrame(rows, columns=["text_file", "translation_file"]), errors
