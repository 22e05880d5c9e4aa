# One image, three functions: the command picks the handler.

locals {
  # What handlers/settings.py reads.
  environment = {
    # Initialize refuses a plan whose ranks would not fit Infer.
    initialize = {
      INFER_MEMORY_MB = tostring(var.stages.infer.memory_mb)
      INFER_QUALIFIER = local.is_published ? "live" : "$LATEST"
      INFER_TIMEOUT_S = tostring(var.stages.infer.timeout_s)
      # Ranks that talk must be alive at the same time, and wait for each other as long as it takes to start them.
      INFER_MAX_CONCURRENCY = tostring(var.max_concurrency)
      INFER_STARTS_PER_S    = tostring(var.starts_per_s)
    }
    infer = {
      CODE_VERSION = var.code_version
      IMAGE_DIGEST = try(regex("sha256:[0-9a-f]{64}$", var.image_uri), "")
    }
    summarize = {}
  }

  # Where ranks meet, and the key that Initialize derives the run's own from; ranks get both from their task.
  rendezvous = var.rendezvous == null ? {} : {
    RENDEZVOUS_ENDPOINT   = var.rendezvous.endpoint
    RENDEZVOUS_SECRET_ARN = var.rendezvous.secret_arn
  }

  # What reads datasets: the two stages agree to pay for a bucket whose requesters do.
  data_reading = var.requester_pays_bucket == null ? {} : { REQUESTER_PAYS_BUCKET = var.requester_pays_bucket }
  added = {
    initialize = merge(local.rendezvous, local.data_reading)
    infer      = local.data_reading
    summarize  = {}
  }

  # Workers can be kept warm, or start from a snapshot, only for a published version, which an alias names.
  is_provisioned = var.provisioned_concurrency > 0
  is_published   = local.is_provisioned || var.snap_start
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = var.log_groups

  # checkov:skip=CKV_AWS_158:CloudWatch encrypts at rest; a KMS key would cost while idle, and logs hold keys and counts only
  # checkov:skip=CKV_AWS_338:the retention is the user's (log_retention_days); a run's own records outlive its logs
  name              = each.value
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "this" {
  for_each = var.stages

  # checkov:skip=CKV_AWS_116:a dead-letter queue is for asynchronous invocations; the state machine waits for the answer
  # checkov:skip=CKV_AWS_117:the functions reach S3 and nothing else; a VPC would need endpoints that cost while idle
  # checkov:skip=CKV_AWS_115:concurrency is limited by MaxConcurrency of the Map; infer_reserved_concurrency limits it here
  # checkov:skip=CKV_AWS_173:the variables hold sizes and versions, no secret; Lambda encrypts them with a key of its own
  # checkov:skip=CKV_AWS_272:code signing exists for zip archives only; the image is fixed by its digest
  function_name                  = var.function_names[each.key]
  description                    = "${title(each.key)} stage of serverless redshift inference."
  role                           = var.role_arns[each.key]
  package_type                   = "Image"
  image_uri                      = coalesce(var.image_uri, "none") # refused by the precondition in outputs.tf, except to destroy
  architectures                  = [var.architecture]
  memory_size                    = each.value.memory_mb
  timeout                        = each.value.timeout_s
  publish                        = each.key == "infer" && local.is_published
  reserved_concurrent_executions = each.key == "infer" ? coalesce(var.reserved_concurrency, -1) : -1

  image_config {
    command = [each.value.handler]
  }

  ephemeral_storage {
    size = each.value.ephemeral_mb
  }

  dynamic "snap_start" {
    for_each = each.key == "infer" && var.snap_start ? [1] : []
    content {
      apply_on = "PublishedVersions"
    }
  }

  dynamic "environment" {
    for_each = length(local.environment[each.key]) == 0 ? [] : [merge(local.environment[each.key], local.added[each.key])]
    content {
      variables = environment.value
    }
  }

  # JSON: the runtime prints one object per message, and Lambda its report, with names that metrics can be made from.
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.this[each.key].name
  }

  tracing_config {
    mode = "Active"
  }
}

resource "aws_lambda_alias" "live" {
  count = local.is_published ? 1 : 0

  name             = "live"
  description      = local.is_provisioned ? "The version that is kept warm." : "The version that has a snapshot."
  function_name    = aws_lambda_function.this["infer"].function_name
  function_version = aws_lambda_function.this["infer"].version
}

resource "aws_lambda_provisioned_concurrency_config" "this" {
  count = local.is_provisioned ? 1 : 0

  function_name                     = aws_lambda_alias.live[0].function_name
  qualifier                         = aws_lambda_alias.live[0].name
  provisioned_concurrent_executions = var.provisioned_concurrency
}
