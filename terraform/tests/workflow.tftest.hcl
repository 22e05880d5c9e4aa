# The state machine's file, filled in.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                         = "photo-z"
  definition_path              = "./state_machine.asl.json"
  role_arn                     = "arn:aws:iam::123456789012:role/states"
  function_arns                = { initialize = "arn:i", infer = "arn:f", summarize = "arn:s" }
  timeouts_s                   = { initialize = 300, infer = 900, summarize = 900 }
  child_type                   = "STANDARD"
  tolerated_failure_percentage = 100
  log_retention_days           = 30
}

run "placeholders_become_values" {
  command = plan

  module {
    source = "./modules/workflow"
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.this.definition).States.InferRanks.MaxConcurrencyPath == "$.max_concurrency"
    error_message = "The plan says how many ranks run at the same time."
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.this.definition).States.InferRanks.ItemProcessor.States.Infer.Parameters.FunctionName == "arn:f"
    error_message = "Infer calls its function."
  }

  assert {
    condition     = strcontains(aws_sfn_state_machine.this.definition, "\"ToleratedFailurePercentage\": 100.0")
    error_message = "A percentage is written as a decimal."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == 30 && aws_sfn_state_machine.this.tracing_configuration[0].enabled
    error_message = "Logs have a retention, traces are on."
  }
}

run "express_children_that_stop_early" {
  command = plan

  module {
    source = "./modules/workflow"
  }

  variables {
    child_type                   = "EXPRESS"
    tolerated_failure_percentage = 12.5
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.this.definition).States.InferRanks.ItemProcessor.ProcessorConfig.ExecutionType == "EXPRESS"
    error_message = "The child type is the one asked for."
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.this.definition).States.InferRanks.ToleratedFailurePercentage == 12.5
    error_message = "The tolerance is the one asked for."
  }
}

run "a_function_that_outlives_its_state_is_refused" {
  command = plan

  module {
    source = "./modules/workflow"
  }

  variables {
    timeouts_s = { initialize = 900, infer = 900, summarize = 900 }
  }

  expect_failures = [aws_sfn_state_machine.this]
}

run "a_name_beyond_80_characters_is_refused" {
  command = plan

  module {
    source = "./modules/workflow"
  }

  variables {
    name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }

  expect_failures = [var.name]
}
