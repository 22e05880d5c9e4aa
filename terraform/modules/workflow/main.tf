# The state machine: one file, here filled in for AWS and by scripts/local_aws/deploy.py for the local one.

locals {
  source = file(var.definition_path)

  # A quoted placeholder is replaced, quotes included, by a JSON value: the file is valid JSON before and after.
  with_initialize = replace(local.source, jsonencode("$${initialize_arn}"), jsonencode(var.function_arns.initialize))
  with_infer      = replace(local.with_initialize, jsonencode("$${infer_arn}"), jsonencode(var.function_arns.infer))
  with_summarize  = replace(local.with_infer, jsonencode("$${summarize_arn}"), jsonencode(var.function_arns.summarize))

  # These two have values in the file, so that it runs as it is: STANDARD children, all of which may fail. The
  # preconditions below notice when the file no longer says so. "%.4f": a percentage is written as a decimal.
  with_child_type = replace(local.with_summarize, "\"ExecutionType\": \"STANDARD\"", "\"ExecutionType\": ${jsonencode(var.child_type)}")
  definition      = replace(local.with_child_type, "\"ToleratedFailurePercentage\": 100.0", format("\"ToleratedFailurePercentage\": %.4f", var.tolerated_failure_percentage))

  # For the checks only; jsonencode would write 100.0 as 100.
  is_filled_in = length(regexall("\"[$][{]", local.definition)) == 0
  states       = jsondecode(local.source).States
  ranks        = jsondecode(local.definition).States.InferRanks
  is_as_asked = (
    local.ranks.ItemProcessor.ProcessorConfig.ExecutionType == var.child_type &&
    abs(local.ranks.ToleratedFailurePercentage - var.tolerated_failure_percentage) < 0.001
  )
  state_timeouts_s = {
    initialize = local.states.Initialize.TimeoutSeconds
    infer      = local.states.InferRanks.ItemProcessor.States.InferAtLast.TimeoutSeconds
    summarize  = local.states.Summarize.TimeoutSeconds
  }
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158:CloudWatch encrypts at rest; a KMS key would cost while idle, and states carry keys and counts only
  # checkov:skip=CKV_AWS_338:the retention is the user's (log_retention_days); a run's own records outlive its logs
  # Groups under /aws/vendedlogs/ do not use up the account's one resource policy:
  # https://docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html
  name              = "/aws/vendedlogs/states/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_sfn_state_machine" "this" {
  name       = var.name
  role_arn   = var.role_arn
  type       = "STANDARD"
  definition = local.definition

  logging_configuration {
    log_destination = "${aws_cloudwatch_log_group.this.arn}:*"
    # States carry keys and counts, never data. ERROR: ten thousand ranks that succeed need no lines.
    include_execution_data = true
    level                  = "ERROR"
  }

  tracing_configuration {
    enabled = true
  }

  lifecycle {
    precondition {
      condition     = local.is_filled_in
      error_message = "${var.definition_path} has a placeholder that modules/workflow gives no value to."
    }

    precondition {
      condition     = local.is_as_asked
      error_message = "${var.definition_path} is written differently from what modules/workflow replaces in it."
    }

    precondition {
      condition     = alltrue([for stage, timeout_s in var.timeouts_s : timeout_s < local.state_timeouts_s[stage]])
      error_message = "A state must outlive its function, so that the function's own error is seen: lower timeout_s in `stages` below the state's TimeoutSeconds (${jsonencode(local.state_timeouts_s)})."
    }
  }
}
