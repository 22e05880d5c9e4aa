"""What an invocation reports to CloudWatch: metrics that ride in a line of its own log.

CloudWatch Logs makes metrics of a line that is one JSON object with the member ``_aws`` (embedded metric format).
Under Lambda's JSON log format the runtime writes what a message carries in `extra` at the root of such an object, so
an ordinary log line is enough; what `print` writes would count as plain text. Powertools for AWS Lambda builds the same
members, for 48 ms of every cold start and 8 MB of the image.

References
----------
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import time

NAMESPACE = "RedshiftInference"
"""Of the metrics in CloudWatch; the dashboard reads them there."""

# CloudWatch charges per metric and function, so only what has a place on the dashboard is here, and the name of the
# function, which says deployment and stage, is the only dimension: a rank would be a metric of its own.
UNITS = {
    "ranks_planned": "Count",
    "rows": "Count",
    "rows_per_s": "Count/Second",
    "inference_s": "Seconds",
    "download_s": "Seconds",
    "peak_memory_bytes": "Bytes",
    "cold_starts": "Count",
    "ranks_lost": "Count",
}
"""Metric to CloudWatch's name of its unit."""


def embed(function_name: str, **metrics: float) -> dict[str, object]:
    """Return the members of a log line that CloudWatch turns into metrics; they go into `extra`.

    Parameters
    ----------
    function_name : str
        Dimension of every metric.
    **metrics : float
        Name from `UNITS` to its value, finite.
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["function_name"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in metrics],
    }
    metadata = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": metadata, "function_name": function_name, **metrics}
