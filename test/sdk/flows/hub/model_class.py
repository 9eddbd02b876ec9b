"""A handler that is a method of a class, made with parameters of the run."""

import mlrun
from mlrun.errors import MLRunInvalidArgumentError


class Scaler:
    def __init__(self, context, factor: float = 1.0):
        self.context = context
        self.factor = factor

    def apply(self, numbers: list, offset=0):
        if not numbers:
            raise mlrun.errors.MLRunInvalidArgumentError("there are no numbers")
        scaled = [number * self.factor + offset for number in numbers]
        self.context.log_result("scaled", scaled)
        self.context.log_result("project", self.context.project)
        try:
            self.apply([])
        except MLRunInvalidArgumentError as error:
            self.context.log_result("refused", str(error))
        return sum(scaled)
