# How is the run going, what did it cost, what failed: one dashboard, and alarms for what a person should look at.

locals {
  # us-east-1, USD, from https://aws.amazon.com/lambda/pricing/ as of January 2026. Only the dashboard's estimate uses it.
  usd_per_gb_s    = { x86_64 = 0.0000166667, arm64 = 0.0000133334 }
  usd_per_request = 0.0000002

  infer       = var.function_names.infer
  timeouts_ms = { for stage, settings in var.stages : stage => settings.timeout_s * 1000 }

  # Of the metrics that the handlers write into their log lines (handlers/telemetry.py), one of each per function.
  namespace = "RedshiftInference"

  alarm_actions = aws_sns_topic.this[*].arn
}

# What is billed: Lambda says it in its own report of an invocation, also of one whose worker died, and nowhere else.
# Charged only for hours in which something ran (0.30 USD per metric and month, prorated).
resource "aws_cloudwatch_log_metric_filter" "billed" {
  for_each = var.log_groups

  name           = "${var.name}-${each.key}-billed-ms"
  log_group_name = each.value
  pattern        = "{ $.type = \"platform.report\" }"

  metric_transformation {
    namespace = var.name
    name      = "${each.key}-billed-ms"
    value     = "$.record.metrics.billedDurationMs"
    unit      = "Milliseconds"
  }
}

resource "aws_cloudwatch_dashboard" "this" {
  # Dashboards are global: without the region, a second deployment elsewhere would replace this one.
  dashboard_name = "${var.name}-${var.region}"
  dashboard_body = jsonencode({ widgets = local.widgets })
}

# ---------------------------------------------------------------------------------------------------------- alarms

resource "aws_sns_topic" "this" {
  count = var.alarm_email == null ? 0 : 1

  # checkov:skip=CKV_AWS_26:CloudWatch cannot publish under the free AWS key, an own one costs while idle; messages name an alarm only
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.this[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "executions_failed" {
  alarm_name          = "${var.name}-executions-failed"
  alarm_description   = "A run failed: its execution names the error, its summary.json the lost ranks."
  namespace           = "AWS/States"
  metric_name         = "ExecutionsFailed"
  dimensions          = { StateMachineArn = var.state_machine_arn }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  for_each = var.function_names

  alarm_name          = "${each.value}-throttles"
  alarm_description   = "Lambda refused invocations of ${each.key}: lower max_concurrency or ask for a higher quota."
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = each.value }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "duration" {
  for_each = var.function_names

  alarm_name          = "${each.value}-duration"
  alarm_description   = "One in twenty invocations of ${each.key} takes over 80 % of its timeout: use more ranks, or more memory."
  namespace           = "AWS/Lambda"
  metric_name         = "Duration"
  dimensions          = { FunctionName = each.value }
  extended_statistic  = "p95"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0.8 * local.timeouts_ms[each.key]
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
}
