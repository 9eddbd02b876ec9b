"""Try parameters in child contexts and keep the best."""

import mlrun


def search(context: mlrun.MLClientCtx, values: list, target: float = 2.0):
    best, best_loss = 0, None
    for number, value in enumerate(values, 1):
        with context.get_child_context(value=value) as child:
            loss = (value - target) ** 2
            child.log_result("loss", loss)
            child.set_label("tried", value)
            if best_loss is None or loss < best_loss:
                best, best_loss = number, loss
                child.mark_as_best()
    context.log_result("chosen", best)
