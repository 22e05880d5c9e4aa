# Functions: the image, what a handler reads from its environment, logs, warm workers.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  stages             = jsondecode(file("stages.json"))
  function_names     = { initialize = "photo-z-initialize", infer = "photo-z-infer", summarize = "photo-z-summarize" }
  log_groups         = { initialize = "/aws/lambda/photo-z-initialize", infer = "/aws/lambda/photo-z-infer", summarize = "/aws/lambda/photo-z-summarize" }
  role_arns          = { initialize = "arn:aws:iam::123456789012:role/i", infer = "arn:aws:iam::123456789012:role/f", summarize = "arn:aws:iam::123456789012:role/s" }
  image_uri          = "123456789012.dkr.ecr.us-east-1.amazonaws.com/photo-z@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  region             = "us-east-1"
  code_version       = "v1"
  architecture       = "x86_64"
  log_retention_days = 30
  max_concurrency    = 100
  starts_per_s       = 1000
}

run "three_functions_of_one_image" {
  command = plan

  module {
    source = "./modules/functions"
  }

  assert {
    condition     = { for stage, function in aws_lambda_function.this : stage => function.image_config[0].command[0] } == { for stage, settings in var.stages : stage => settings.handler }
    error_message = "The command picks the handler."
  }

  assert {
    condition     = aws_lambda_function.this["infer"].environment[0].variables == tomap({ CODE_VERSION = "v1", IMAGE_DIGEST = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" })
    error_message = "Infer knows which image and code it is."
  }

  assert {
    condition     = aws_lambda_function.this["initialize"].environment[0].variables == tomap({ INFER_MEMORY_MB = tostring(var.stages.infer.memory_mb), INFER_QUALIFIER = "$LATEST", INFER_TIMEOUT_S = tostring(var.stages.infer.timeout_s), INFER_MAX_CONCURRENCY = "100", INFER_STARTS_PER_S = "1000" })
    error_message = "Initialize knows what a rank may use, and which version of Infer is called."
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.retention_in_days == 30])
    error_message = "Every log group has a retention."
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.logging_config[0].log_format == "JSON" && function.tracing_config[0].mode == "Active"])
    error_message = "Logs are JSON, traces are on."
  }

  assert {
    condition     = length(aws_lambda_alias.live) == 0
    error_message = "Nothing is kept warm unless asked."
  }
}

run "stages_that_read_datasets_pay_where_the_requester_does" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    requester_pays_bucket = "sky-survey"
  }

  assert {
    condition     = alltrue([for stage in ["initialize", "infer"] : aws_lambda_function.this[stage].environment[0].variables["REQUESTER_PAYS_BUCKET"] == "sky-survey"])
    error_message = "Initialize and Infer agree to pay."
  }

  assert {
    condition     = length(aws_lambda_function.this["summarize"].environment) == 0
    error_message = "Summarize reads no dataset."
  }
}

run "initialize_and_no_other_stage_knows_where_ranks_meet" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    rendezvous = { endpoint = "meet.example.org:10000", secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key" }
  }

  assert {
    condition     = aws_lambda_function.this["initialize"].environment[0].variables.RENDEZVOUS_ENDPOINT == "meet.example.org:10000" && aws_lambda_function.this["initialize"].environment[0].variables.RENDEZVOUS_SECRET_ARN == var.rendezvous.secret_arn
    error_message = "Initialize asks the server and signs the names of a run."
  }

  assert {
    condition     = !can(aws_lambda_function.this["infer"].environment[0].variables.RENDEZVOUS_SECRET_ARN)
    error_message = "Ranks get what they need from their task."
  }
}

run "warm_workers_are_called_through_their_alias" {
  module {
    source = "./modules/functions"
  }

  variables {
    provisioned_concurrency = 8
    reserved_concurrency    = 20
  }

  assert {
    condition     = aws_lambda_function.this["infer"].publish && aws_lambda_function.this["initialize"].environment[0].variables.INFER_QUALIFIER == aws_lambda_alias.live[0].name
    error_message = "Only a published version can be kept warm, and only under its alias."
  }

  assert {
    condition     = aws_lambda_function.this["infer"].reserved_concurrent_executions == 20 && aws_lambda_function.this["summarize"].reserved_concurrent_executions == -1
    error_message = "Concurrency is kept for Infer alone."
  }
}

run "without_an_image_there_are_no_functions" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    image_uri = null
  }

  expect_failures = [output.arns]
}

run "an_image_of_another_region_is_refused" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    region = "eu-central-1"
  }

  expect_failures = [output.arns]
}

run "a_table_of_stages_beyond_lambda_is_refused" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    stages = { for stage, settings in jsondecode(file("stages.json")) : stage => merge(settings, { memory_mb = 20480 }) }
  }

  expect_failures = [var.stages]
}

run "a_snapshot_is_taken_of_a_published_version_which_the_alias_names" {
  command = plan

  module {
    source = "./modules/functions"
  }

  variables {
    snap_start = true
  }

  assert {
    condition     = aws_lambda_function.this["infer"].snap_start[0].apply_on == "PublishedVersions" && aws_lambda_function.this["infer"].publish
    error_message = "Lambda takes snapshots of published versions."
  }

  assert {
    condition     = length(aws_lambda_function.this["initialize"].snap_start) == 0 && length(aws_lambda_function.this["summarize"].snap_start) == 0
    error_message = "The other stages load no engine."
  }

  assert {
    condition     = aws_lambda_alias.live[0].name == "live" && aws_lambda_function.this["initialize"].environment[0].variables.INFER_QUALIFIER == "live"
    error_message = "The version with the snapshot is what ranks run."
  }

  assert {
    condition     = length(aws_lambda_provisioned_concurrency_config.this) == 0
    error_message = "Lambda keeps no workers warm that start from a snapshot."
  }
}
