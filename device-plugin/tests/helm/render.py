"""Renders a chart by Helm's own engine: reads a list of values from stdin, as JSON, and prints as many answers."""

import json
import sys

from helm_python.chart import Chart
from helm_python.errors import HelmError


def render(chart, values):
    try:
        return {"rendered": Chart.load(chart).render(values, name="doorbell", namespace="kube-system")}
    except HelmError as error:
        return {"error": str(error)}


print(json.dumps([render(sys.argv[1], values) for values in json.load(sys.stdin)]))
