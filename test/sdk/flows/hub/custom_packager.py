"""A type with a packager of its own, which the project adds."""

import json

import mlrun
from mlrun import ArtifactType, DefaultPackager
from mlrun.artifacts import Artifact


class Polygon:
    def __init__(self, points):
        self.points = points

    def area(self):
        pairs = zip(self.points, self.points[1:] + self.points[:1])
        return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


class PolygonPackager(DefaultPackager):
    PACKABLE_OBJECT_TYPE = Polygon
    DEFAULT_PACKING_ARTIFACT_TYPE = ArtifactType.FILE
    DEFAULT_UNPACKING_ARTIFACT_TYPE = ArtifactType.FILE

    def pack_file(self, obj, key, indent=None):
        path = f"{key}.json"
        with open(path, "w") as file:
            json.dump(obj.points, file, indent=indent)
        self.add_future_clearing_path(path)
        return Artifact(key=key, src_path=path), {"indent": indent}

    def pack_result(self, obj, key):
        return {key: obj.area(), f"{key}_points": len(obj.points)}

    def unpack_file(self, data_item, indent=None):
        with open(self.get_data_item_local_path(data_item)) as file:
            return Polygon([tuple(point) for point in json.load(file)])


def draw(side: int = 2):
    square = Polygon([(0, 0), (side, 0), (side, side), (0, side)])
    return square, square, square


def measure(context: mlrun.MLClientCtx, shape: Polygon, again: Polygon):
    context.log_result("area", shape.area())
    context.log_result("points", [list(point) for point in again.points])
