"""A program: it gets its context by itself."""

import mlrun
from mlrun import get_or_create_ctx


def main():
    context = get_or_create_ctx("trainer")
    rate = context.get_param("rate", 0.5)
    rounds = context.get_param("rounds", 3)
    df = context.get_input("table").as_df()
    loss = 1.0
    for _ in range(rounds):
        loss *= rate
    context.log_result("loss", loss)
    context.log_results({"rows": len(df), "same": mlrun.get_or_create_ctx("again") is context})
    context.set_label("stage", "program")
    context.log_artifact("losses", body=f"{loss}\n", format="txt")
    context.log_model("line", body=b"0.5", model_file="line.bin", metrics={"loss": loss}, labels={"class": "line"})
    print(context.project, context.name)


if __name__ == "__main__":
    main()
