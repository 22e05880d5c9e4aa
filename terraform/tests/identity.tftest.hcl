# Least privilege: what the policies say, statement by statement.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "redshift-inference"
  partition          = "aws"
  region             = "us-east-1"
  account_id         = "123456789012"
  function_names     = { initialize = "redshift-inference-initialize", infer = "redshift-inference-infer", summarize = "redshift-inference-summarize" }
  log_groups         = { initialize = "/aws/lambda/i", infer = "/aws/lambda/f", summarize = "/aws/lambda/s" }
  state_machine_name = "redshift-inference"
  bucket_arn         = "arn:aws:s3:::own"
  dataset_prefixes   = ["datasets/"]
  result_prefixes    = ["*/"]
}

run "least_privilege" {
  command = plan

  module {
    source = "./modules/identity"
  }

  assert {
    condition = alltrue(flatten([
      for document in concat(values(data.aws_iam_policy_document.objects), values(data.aws_iam_policy_document.stage), [data.aws_iam_policy_document.state_machine]) : [
        for statement in document.statement : [for action in statement.actions : !strcontains(action, "*")]
      ]
    ]))
    error_message = "Every action is named in full."
  }

  assert {
    condition = toset(flatten([
      for document in concat(values(data.aws_iam_policy_document.objects), values(data.aws_iam_policy_document.stage), [data.aws_iam_policy_document.state_machine]) : [
        for statement in document.statement : [for action in statement.actions : split(":", action)[0]] if contains(statement.resources, "*")
      ]
    ])) == toset(["logs", "xray"])
    error_message = "Only X-Ray and log deliveries, which have no resources, are allowed on all resources."
  }

  assert {
    condition = alltrue([
      for document in values(data.aws_iam_policy_document.objects) :
      anytrue([for statement in document.statement : statement.effect == "Deny" && contains(statement.resources, "arn:aws:s3:::own/datasets/*")])
    ])
    error_message = "Nobody may write into a dataset, wherever results may go."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.objects["infer"].statement : statement.resources if statement.sid == "Write"]) == ["arn:aws:s3:::own/*/fmi/*", "arn:aws:s3:::own/*/predictions/*", "arn:aws:s3:::own/*/ranks/*"]
    error_message = "Infer writes its record, its predictions and messages to other ranks."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.objects["infer"].statement : [for one in statement.condition : one.values] if contains(statement.actions, "s3:ListBucket")]) == ["*/fmi/*"]
    error_message = "Infer lists messages of other ranks and nothing else."
  }

  assert {
    condition = toset(flatten([for statement in data.aws_iam_policy_document.state_machine.statement : statement.resources if contains(statement.actions, "lambda:InvokeFunction")])) == toset([
      "arn:aws:lambda:us-east-1:123456789012:function:redshift-inference-initialize",
      "arn:aws:lambda:us-east-1:123456789012:function:redshift-inference-infer",
      "arn:aws:lambda:us-east-1:123456789012:function:redshift-inference-infer:*",
      "arn:aws:lambda:us-east-1:123456789012:function:redshift-inference-summarize",
    ])
    error_message = "The state machine invokes its three functions and versions of Infer, and nothing else."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.state_machine.statement : statement.resources if statement.sid == "StartRanks"]) == ["arn:aws:states:us-east-1:123456789012:stateMachine:redshift-inference"]
    error_message = "The state machine starts executions of itself only."
  }

  assert {
    condition = toset(flatten([for statement in data.aws_iam_policy_document.states_assumes.statement : [for condition in statement.condition : condition.values if condition.variable == "aws:SourceArn"]])) == toset([
      "arn:aws:states:us-east-1:123456789012:stateMachine:redshift-inference",
      "arn:aws:states:us-east-1:123456789012:stateMachine:redshift-inference/*",
      "arn:aws:states:us-east-1:123456789012:stateMachine:redshift-inference:*",
    ])
    error_message = "The state machine, the children of its Map and its versions take the role, and no other."
  }
}

run "own_prefixes_and_an_existing_bucket" {
  command = plan

  module {
    source = "./modules/identity"
  }

  variables {
    dataset_prefixes     = ["datasets/", "surveys/"]
    result_prefixes      = ["runs/"]
    data_bucket_arn      = "arn:aws:s3:::sky-survey"
    data_bucket_key_arn  = "arn:aws:kms:us-east-1:999999999999:key/sky"
    data_bucket_prefixes = ["dr17/"]
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.objects["summarize"].statement : statement.resources if statement.sid == "Write"]) == ["arn:aws:s3:::own/runs/combined_data.json", "arn:aws:s3:::own/runs/fmi.json", "arn:aws:s3:::own/runs/summary.json"]
    error_message = "Results go under the prefixes given."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.objects["infer"].statement : statement.resources if statement.sid == "Read"]) == ["arn:aws:s3:::own/datasets/*", "arn:aws:s3:::own/runs/fmi/*", "arn:aws:s3:::own/surveys/*"]
    error_message = "Infer reads datasets, and messages of other ranks."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.objects["infer"].statement : statement.resources if statement.sid == "ReadDataBucket"]) == ["arn:aws:s3:::sky-survey/dr17/*"]
    error_message = "Infer reads the existing bucket where it was allowed to."
  }

  assert {
    condition = {
      for role, document in data.aws_iam_policy_document.objects : role => flatten([for statement in document.statement : statement.resources if statement.sid == "DecryptDataBucket"])
      } == {
      initialize    = ["arn:aws:kms:us-east-1:999999999999:key/sky"]
      infer         = ["arn:aws:kms:us-east-1:999999999999:key/sky"]
      summarize     = []
      state_machine = []
    }
    error_message = "Who reads the existing bucket may decrypt it, and no one else."
  }

  assert {
    condition = toset(flatten([
      for document in values(data.aws_iam_policy_document.objects) : [
        for statement in document.statement : statement.actions if anytrue([for resource in statement.resources : startswith(resource, "arn:aws:s3:::sky-survey")])
      ]
    ])) == toset(["s3:GetObject", "s3:ListBucket"])
    error_message = "The existing bucket is only read."
  }

  assert {
    condition     = length([for statement in data.aws_iam_policy_document.objects["summarize"].statement : statement if strcontains(statement.sid, "DataBucket")]) == 0
    error_message = "Summarize has no business in the existing bucket."
  }
}

run "only_initialize_reads_the_key_of_the_rendezvous" {
  command = plan

  module {
    source = "./modules/identity"
  }

  variables {
    has_rendezvous        = true
    rendezvous_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key"
  }

  assert {
    condition = {
      for stage, document in data.aws_iam_policy_document.stage :
      stage => [for statement in document.statement : statement.resources if contains(statement.actions, "secretsmanager:GetSecretValue")]
      } == {
      initialize = [toset([var.rendezvous_secret_arn])]
      infer      = []
      summarize  = []
    }
    error_message = "Ranks are given the key of their run, never the server's."
  }
}

run "an_organization_prescribes_path_and_boundary" {
  command = plan

  module {
    source = "./modules/identity"
  }

  variables {
    role_path                = "/research/"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/Boundary"
  }

  assert {
    condition = alltrue([
      for role in concat(values(aws_iam_role.stage), [aws_iam_role.state_machine]) :
      role.path == "/research/" && role.permissions_boundary == "arn:aws:iam::123456789012:policy/Boundary"
    ])
    error_message = "Every role is made as the organization wants it."
  }
}
