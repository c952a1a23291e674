"""A chart by Helm's own engine: reads a list of values from stdin, as JSON, and prints as many answers."""

import json
import sys

from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

INFO = 1


def answer(chart, values):
    try:
        findings = [
            f"{message['path']}: {message['error']}"
            for message in lint(chart, values, strict=True, namespace="kube-system")["messages"]
            if message["severity"] > INFO
        ]
        rendered = Chart.load(chart).render(values, name="doorbell", namespace="kube-system")
        return {"rendered": rendered, "findings": findings}
    except HelmError as error:
        return {"error": str(error)}


print(json.dumps([answer(sys.argv[1], values) for values in json.load(sys.stdin)]))
