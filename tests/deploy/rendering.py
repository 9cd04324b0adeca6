"""Render the chart by Helm's own engine: values as JSON on standard input, manifests as JSON on standard output.

It is a separate process because Helm is written in Go, whose runtime would stay in that of the tests with its threads
and its signal handlers.
"""

import json
import sys

import helm_python


def main() -> None:
    """Print the manifests or the error; the argument `lint` prints the findings of Helm's linter instead."""
    chart, *request = sys.argv[1:]
    values = json.load(sys.stdin)
    if request:
        print(json.dumps(helm_python.lint(chart, values, strict=True)))
        return
    answer: dict[str, object]
    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(loaded.merge_values(values))
            answer = {"manifests": loaded.render(values, name="demo", namespace="prod")}
    except helm_python.HelmError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
