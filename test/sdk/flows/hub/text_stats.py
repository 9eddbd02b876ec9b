"""Count words; a decorated function that logs what it returns."""

import collections
import pathlib

from mlrun.package import handler


@handler(outputs=["words", "top : file", "lengths", "letters", "summary : path"])
def count(text: pathlib.Path, top: int = 2):
    words = text.read_text().lower().split()
    counter = collections.Counter(words)
    summary = text.parent / "summary-of-text.txt"
    summary.write_text(f"{len(words)} words")
    common = [list(pair) for pair in sorted(counter.items(), key=lambda p: (-p[1], p[0]))[:top]]
    letters = {"first": words[0], "last": words[-1]}
    return len(words), common, [len(word) for word in words[:2]], letters, summary
