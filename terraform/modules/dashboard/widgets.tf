# What the dashboard shows, row by row.

locals {
  per_function = { for metric in ["Invocations", "Errors", "Throttles"] : metric => [
    for stage, name in var.function_names : ["AWS/Lambda", metric, "FunctionName", name, { label = "${stage}: ${lower(metric)}" }]
  ] }

  # Billed milliseconds → GB-seconds → USD, per stage; metrics that are only an ingredient are not drawn.
  billed = [for stage in keys(var.stages) : [var.name, "${stage}-billed-ms", { id = "billed_${stage}", stat = "Sum", visible = false }]]
  gb_s = join(" + ", [for stage, settings in var.stages :
    "FILL(billed_${stage}, 0) * ${settings.memory_mb} / 1024000"
  ])
  requests     = [for stage, name in var.function_names : ["AWS/Lambda", "Invocations", "FunctionName", name, { id = "invocations_${stage}", stat = "Sum", visible = false }]]
  num_requests = join(" + ", [for stage in keys(var.stages) : "FILL(invocations_${stage}, 0)"])

  charts = [
    # How is it going?
    { title = "Runs", stat = "Sum", metrics = [
      for metric in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsAborted", "ExecutionsTimedOut"] :
      ["AWS/States", metric, "StateMachineArn", var.state_machine_arn, { label = trimprefix(metric, "Executions") }]
    ] },
    { title = "Rows per second", stat = "Sum", metrics = [
      [{ expression = "rows / PERIOD(rows)", label = "all ranks" }],
      [local.namespace, "rows", "function_name", local.infer, { id = "rows", visible = false }],
      [local.namespace, "rows_per_s", "function_name", local.infer, { stat = "Average", label = "one rank while it computes" }],
    ] },
    { title = "Ranks planned, done and lost", stat = "Sum", metrics = [
      [local.namespace, "ranks_planned", "function_name", var.function_names.initialize, { label = "planned" }],
      [local.namespace, "rows", "function_name", local.infer, { stat = "SampleCount", label = "done" }],
      [local.namespace, "ranks_lost", "function_name", var.function_names.summarize, { label = "lost" }],
    ] },
    { title = "Ranks at the same time", stat = "Maximum", mark = { label = "MaxConcurrency", value = var.max_concurrency }, metrics = [
      ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", local.infer, { label = "infer" }],
    ] },
    { title = "Duration of Infer [ms]", stat = "p50", mark = { label = "timeout", value = local.timeouts_ms.infer }, metrics = [
      ["AWS/Lambda", "Duration", "FunctionName", local.infer, { stat = "p50", label = "p50" }],
      ["AWS/Lambda", "Duration", "FunctionName", local.infer, { stat = "p95", label = "p95" }],
      ["AWS/Lambda", "Duration", "FunctionName", local.infer, { stat = "Maximum", label = "max" }],
    ] },
    { title = "Where the time of a rank goes, mean [s]", stat = "Average", metrics = [
      [local.namespace, "inference_s", "function_name", local.infer, { label = "inference" }],
      [local.namespace, "download_s", "function_name", local.infer, { label = "waiting for S3" }],
    ] },
    { title = "Peak memory of a rank [bytes]", stat = "Maximum", mark = { label = "limit", value = var.stages.infer.memory_mb * 1048576 }, metrics = [
      [local.namespace, "peak_memory_bytes", "function_name", local.infer, { label = "max" }],
      [local.namespace, "peak_memory_bytes", "function_name", local.infer, { stat = "Average", label = "mean" }],
    ] },
    { title = "Invocations", stat = "Sum", metrics = concat(local.per_function.Invocations, [
      [local.namespace, "cold_starts", "function_name", local.infer, { label = "infer: cold starts" }],
    ]) },
    # What did it cost?
    { title = "Compute [GB s]", stat = "Sum", metrics = concat([[{ expression = local.gb_s, label = "GB s" }]], local.billed) },
    { title = "Lambda, estimate [USD]", stat = "Sum", metrics = concat(
      [[{ expression = "(${local.gb_s}) * ${local.usd_per_gb_s[var.architecture]} + (${local.num_requests}) * ${local.usd_per_request}", label = "USD, prices of us-east-1" }]],
      local.billed, local.requests
    ) },
    { title = "Summarize and Initialize, longest [ms]", stat = "Maximum", metrics = [
      for stage in ["initialize", "summarize"] : ["AWS/Lambda", "Duration", "FunctionName", var.function_names[stage], { label = stage }]
    ] },
    # What failed?
    { title = "Errors and throttles", stat = "Sum", metrics = concat(local.per_function.Errors, local.per_function.Throttles) },
  ]

  chart_widgets = [for index, chart in local.charts : {
    type   = "metric"
    x      = 8 * (index % 3)
    y      = 6 * floor(index / 3)
    width  = 8
    height = 6
    properties = {
      title   = chart.title
      region  = var.region
      view    = "timeSeries"
      period  = 60
      stat    = chart.stat
      metrics = chart.metrics
      # No list where there is no limit to draw: CloudWatch takes an empty one.
      annotations = { horizontal = [for mark in try([chart.mark], []) : mark] }
    }
  }]

  error_lines = {
    type   = "log"
    x      = 0
    y      = 6 * ceil(length(local.charts) / 3)
    width  = 24
    height = 6
    properties = {
      title  = "Errors, newest first"
      region = var.region
      view   = "table"
      query = join(" | ", concat(
        [for group in values(var.log_groups) : "SOURCE '${group}'"],
        ["fields @timestamp, errorType, errorMessage, @logStream", "filter level = 'ERROR' or ispresent(errorType)", "sort @timestamp desc", "limit 50"],
      ))
    }
  }

  widgets = concat(local.chart_widgets, [local.error_lines])
}
