"""Pages of metrics by Prometheus' own parser: reads one from stdin, and prints its samples as JSON."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def name(sample):
    labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}" if labels else sample.name


families = text_string_to_metric_families(sys.stdin.read())
print(json.dumps({name(sample): sample.value for family in families for sample in family.samples}))
