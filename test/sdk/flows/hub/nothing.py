"""Outputs that are None, alone and inside others."""


def search(context):
    context.log_result("direct", None)
    return None, [1, None], {"a": {"b": None}}
