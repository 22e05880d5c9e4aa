# Who may do what: one role per stage, one for the state machine.

locals {
  # What each role may list, read and write: this table is the whole answer about S3.
  #   datasets/…  stands for every one of dataset_prefixes, and for the existing data bucket where there is one
  #   results/…   stands for every one of result_prefixes, the last part of a run's keys following
  access = {
    initialize = {
      list  = ["datasets/*"]
      read  = ["datasets/*", "results/manifest.json", "results/plan.json", "results/pending/*"]
      write = ["results/manifest.json", "results/plan.json"]
    }
    # fmi/ is the last resort of ranks that talk and cannot connect.
    infer = {
      list  = ["results/fmi/*"]
      read  = ["datasets/*", "results/fmi/*"]
      write = ["results/predictions/*", "results/ranks/*", "results/fmi/*"]
    }
    summarize = {
      list  = ["results/ranks/", "results/predictions/", "results/failures/"]
      read  = ["results/manifest.json", "results/ranks/*", "results/failures/*"]
      write = ["results/combined_data.json", "results/summary.json", "results/fmi.json"]
    }
    state_machine = {
      list  = []
      read  = ["results/manifest.json", "results/pending/*"]
      write = ["results/failures/*", "results/map/*"]
    }
  }

  # The table with the deployment's own prefixes: role → list, read, write → patterns of keys in the bucket.
  keys = {
    for role, may in local.access : role => {
      for verb, patterns in may : verb => flatten([
        for pattern in patterns : startswith(pattern, "datasets/")
        ? [for prefix in var.dataset_prefixes : "${prefix}${trimprefix(pattern, "datasets/")}"]
        : [for prefix in var.result_prefixes : "${prefix}${trimprefix(pattern, "results/")}"]
      ])
    }
  }

  # Roles that read datasets read them in the existing bucket too; no role writes there.
  data_keys  = length(var.data_bucket_prefixes) == 0 ? ["*"] : [for prefix in var.data_bucket_prefixes : "${prefix}*"]
  data_reads = var.data_bucket_arn == null ? [] : [for role, may in local.access : role if contains(may.read, "datasets/*")]
  data_lists = var.data_bucket_arn == null ? [] : [for role, may in local.access : role if contains(may.list, "datasets/*")]

  states_arn    = "arn:${var.partition}:states:${var.region}:${var.account_id}"
  function_arns = { for stage, name in var.function_names : stage => "arn:${var.partition}:lambda:${var.region}:${var.account_id}:function:${name}" }
}

# -------------------------------------------------------------------------------------------------------------- S3

data "aws_iam_policy_document" "objects" {
  for_each = local.keys

  dynamic "statement" {
    for_each = length(each.value.list) == 0 ? [] : [each.value.list]
    content {
      sid       = "List"
      actions   = ["s3:ListBucket"]
      resources = [var.bucket_arn]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = statement.value
      }
    }
  }

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = [for key in each.value.read : "${var.bucket_arn}/${key}"]
  }

  statement {
    sid       = "Write"
    actions   = ["s3:PutObject"]
    resources = [for key in each.value.write : "${var.bucket_arn}/${key}"]
  }

  # A result prefix may be anywhere, so that a dataset is protected by name.
  statement {
    sid       = "NeverWriteDatasets"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = [for prefix in var.dataset_prefixes : "${var.bucket_arn}/${prefix}*"]
  }

  dynamic "statement" {
    for_each = contains(local.data_lists, each.key) ? [1] : []
    content {
      sid       = "ListDataBucket"
      actions   = ["s3:ListBucket"]
      resources = [var.data_bucket_arn]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = local.data_keys
      }
    }
  }

  dynamic "statement" {
    for_each = contains(local.data_reads, each.key) ? [1] : []
    content {
      sid       = "ReadDataBucket"
      actions   = ["s3:GetObject"]
      resources = [for key in local.data_keys : "${var.data_bucket_arn}/${key}"]
    }
  }

  # S3 decrypts in the reader's name: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
  dynamic "statement" {
    for_each = contains(local.data_reads, each.key) && var.data_bucket_key_arn != null ? [1] : []
    content {
      sid       = "DecryptDataBucket"
      actions   = ["kms:Decrypt"]
      resources = [var.data_bucket_key_arn]
    }
  }
}

# ---------------------------------------------------------------------------------------------------------- stages

data "aws_iam_policy_document" "lambda_assumes" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "stage" {
  for_each = var.function_names

  source_policy_documents = [data.aws_iam_policy_document.objects[each.key].json]

  # Terraform makes the group: a function that may not make one leaves none behind.
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${var.partition}:logs:${var.region}:${var.account_id}:log-group:${var.log_groups[each.key]}:*"]
  }

  # Initialize derives the key of a run from the server's; ranks never see that one.
  dynamic "statement" {
    for_each = var.has_rendezvous && each.key == "initialize" ? [1] : []
    content {
      sid       = "ReadRendezvousKey"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [var.rendezvous_secret_arn]
    }
  }

  # X-Ray has no resources: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
  statement {
    # checkov:skip=CKV_AWS_111:see the link above
    # checkov:skip=CKV_AWS_356:see the link above
    sid       = "Trace"
    actions   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "stage" {
  for_each = var.function_names

  # Roles are global: without the region, a second deployment elsewhere could not have the same name.
  name               = "${each.value}-${var.region}"
  description        = "What the ${each.key} stage of ${var.name} may do."
  assume_role_policy = data.aws_iam_policy_document.lambda_assumes.json

  path                 = var.role_path
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "stage" {
  for_each = var.function_names

  name   = each.key
  role   = aws_iam_role.stage[each.key].id
  policy = data.aws_iam_policy_document.stage[each.key].json
}

# --------------------------------------------------------------------------------------------------- state machine

# https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html
data "aws_iam_policy_document" "states_assumes" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      # A Map's ranks are executions of `stateMachine:NAME/LABEL`, and a published version is `stateMachine:NAME:1`:
      # https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
      values = [
        "${local.states_arn}:stateMachine:${var.state_machine_name}",
        "${local.states_arn}:stateMachine:${var.state_machine_name}/*",
        "${local.states_arn}:stateMachine:${var.state_machine_name}:*",
      ]
    }
  }
}

data "aws_iam_policy_document" "state_machine" {
  source_policy_documents = [data.aws_iam_policy_document.objects["state_machine"].json]

  statement {
    sid     = "Invoke"
    actions = ["lambda:InvokeFunction"]
    # Of Infer also its versions and aliases: `live` of workers that are kept warm, and other memory sizes of a sweep.
    resources = concat(values(local.function_arns), ["${local.function_arns.infer}:*"])
  }

  # Beyond "Write", what a Map needs to store its iterations' results in parts:
  # https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
  statement {
    sid       = "StoreMapResults"
    actions   = ["s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    resources = [for prefix in var.result_prefixes : "${var.bucket_arn}/${prefix}map/*"]
  }

  # A Distributed Map starts, follows, stops and redrives executions of its own state machine:
  # https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
  statement {
    sid       = "StartRanks"
    actions   = ["states:StartExecution"]
    resources = ["${local.states_arn}:stateMachine:${var.state_machine_name}"]
  }

  statement {
    sid     = "FollowRanks"
    actions = ["states:DescribeExecution", "states:StopExecution"]
    resources = [
      "${local.states_arn}:execution:${var.state_machine_name}:*",
      "${local.states_arn}:execution:${var.state_machine_name}/*",
    ]
  }

  statement {
    sid       = "RedriveRanks"
    actions   = ["states:RedriveExecution"]
    resources = ["${local.states_arn}:execution:${var.state_machine_name}/*"]
  }

  # Log deliveries belong to no log group: https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
  statement {
    # checkov:skip=CKV_AWS_111:see the link above
    # checkov:skip=CKV_AWS_356:see the link above
    # checkov:skip=CKV_AWS_109:see the link above
    sid = "DeliverLogs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }

  # X-Ray has no resources: https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
  statement {
    sid = "Trace"
    actions = [
      "xray:GetSamplingRules",
      "xray:GetSamplingTargets",
      "xray:PutTelemetryRecords",
      "xray:PutTraceSegments",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "state_machine" {
  name               = "${var.state_machine_name}-states-${var.region}"
  description        = "What the state machine of ${var.name} may do."
  assume_role_policy = data.aws_iam_policy_document.states_assumes.json

  path                 = var.role_path
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "state-machine"
  role   = aws_iam_role.state_machine.id
  policy = data.aws_iam_policy_document.state_machine.json
}
