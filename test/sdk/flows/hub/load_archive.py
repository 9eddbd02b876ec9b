"""Unpack an archive, keep its folder and list what it holds."""

import os
import tarfile
import tempfile
import zipfile

from mlrun import DataItem, MLClientCtx
from mlrun.artifacts import DirArtifact


def open_archive(context: MLClientCtx, archive_url: DataItem, subdir: str = "content"):
    target = os.path.join(tempfile.mkdtemp(), subdir)
    path = archive_url.local()
    if path.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(target)
    context.logger.info("extracted", target=os.path.basename(target))
    names = sorted(os.listdir(target))
    context.log_result("files", names)
    context.log_artifact(DirArtifact("content"), local_path=target, upload=True)
    context.log_artifact("first", local_path=os.path.join(target, names[0]), labels={"from": "archive"})
