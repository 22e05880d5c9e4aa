# The server at which ranks meet: one Fargate task behind a load balancer that keeps the clients' addresses.

locals {
  full_name = "${var.name}-rendezvous"

  # Where clients meet, and where only the load balancer looks: handlers/rendezvous/__main__.py has the same defaults.
  port        = 10000
  health_port = 10001
}

# ---------------------------------------------------------------------------------------------------------- the key

resource "aws_secretsmanager_secret" "key" {
  # checkov:skip=CKV_AWS_149:Secrets Manager encrypts with a key of AWS; an own one would cost 1 USD a month while idle
  # checkov:skip=CKV2_AWS_57:a new key ends the runs under way, so it is made on demand: see the README of terraform
  name        = "${local.full_name}-key"
  description = "Signs the names under which the ranks of ${var.name} meet."
  # Nothing is lost with it: the next one is as good.
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "key" {
  secret_id = aws_secretsmanager_secret.key.id
  # 244 random bits, made while it is applied. Write-only: neither plan nor state ever holds them, and another value
  # changes nothing unless the version does.
  secret_string_wo         = sha256("${uuid()}${uuid()}")
  secret_string_wo_version = 1
}

# -------------------------------------------------------------------------------------------------- who may what

data "aws_iam_policy_document" "task_assumes" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:ecs:${var.region}:${var.account_id}:*"]
    }
  }
}

# What ECS needs to start the task. The server itself asks nothing of AWS, so it has no role.
data "aws_iam_policy_document" "start" {
  # A login belongs to no repository: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
  statement {
    # checkov:skip=CKV_AWS_356:see the link above
    sid       = "LogInToRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.repository_arn]
  }

  statement {
    sid       = "ReadKey"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.key.arn]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
}

resource "aws_iam_role" "start" {
  name               = "${local.full_name}-${var.region}"
  description        = "What ECS may do to start the rendezvous of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.task_assumes.json

  path                 = var.role_path
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "start" {
  name   = "start"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.start.json
}

# -------------------------------------------------------------------------------------------------------- the task

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158:CloudWatch encrypts at rest; a KMS key would cost while idle, and logs hold counts only
  # checkov:skip=CKV_AWS_338:the retention is the user's (log_retention_days)
  name              = "/ecs/${local.full_name}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_cluster" "this" {
  # checkov:skip=CKV_AWS_65:Container Insights charges for some thirty metrics; the server has its own and the load balancer an alarm
  name = local.full_name
}

resource "aws_ecs_task_definition" "this" {
  # checkov:skip=CKV_AWS_249:there is no task role: the server asks nothing of AWS
  family                   = local.full_name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  # The smallest there is: 10,000 pairs a minute take a fifth of a core, 12,000 waiting clients 100 MB.
  cpu                = 256
  memory             = 512
  execution_role_arn = aws_iam_role.start.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  container_definitions = jsonencode([
    {
      name                   = "rendezvous"
      image                  = coalesce(var.image_uri, "none") # refused by the precondition in outputs.tf, except to destroy
      essential              = true
      command                = ["--require-token"]
      user                   = "65534:65534"
      readonlyRootFilesystem = true
      # Longer than the server drains.
      stopTimeout     = 90
      linuxParameters = { capabilities = { add = [], drop = ["ALL"] } }
      ulimits         = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      portMappings    = [for port in [local.port, local.health_port] : { containerPort = port, hostPort = port, protocol = "tcp" }]
      # By version, so that a new key is a new task.
      secrets = [{
        name      = "RENDEZVOUS_KEY"
        valueFrom = "${aws_secretsmanager_secret.key.arn}:::${aws_secretsmanager_secret_version.key.version_id}"
      }]
      environment    = []
      mountPoints    = []
      volumesFrom    = []
      systemControls = []
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.this.name
          awslogs-region        = var.region
          awslogs-stream-prefix = "rendezvous"
        }
      }
    },
  ])
}

resource "aws_ecs_service" "this" {
  # checkov:skip=CKV_AWS_333:the address lets the task pull its image; without, a NAT gateway would cost 33 USD a month, and only the load balancer reaches it
  name            = local.full_name
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"

  # Exactly one, also while it is replaced: the two ranks of a pair must come to the same.
  desired_count                      = 1
  deployment_maximum_percent         = 100
  deployment_minimum_healthy_percent = 0
  health_check_grace_period_seconds  = 30

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = [local.subnet_id]
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = true
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "rendezvous"
    container_port   = local.port
  }

  # ECS registers the task where a listener leads to, with a role that may already do everything.
  depends_on = [aws_lb_listener.this, aws_iam_role_policy.start]
}
