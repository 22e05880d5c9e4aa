# How clients reach the task: an existing public subnet or one of its own, and a load balancer with a name that stays.

locals {
  makes_network = var.subnet_id == null
  subnet_id     = local.makes_network ? aws_subnet.this[0].id : var.subnet_id
  vpc_id        = local.makes_network ? aws_vpc.this[0].id : data.aws_subnet.given[0].vpc_id
}

data "aws_subnet" "given" {
  count = local.makes_network ? 0 : 1

  id = var.subnet_id
}

# ---------------------------------------------------------------------------------------------------- its own network

data "aws_availability_zones" "fargate" {
  count = local.makes_network ? 1 : 0

  # checkov:skip=CKV_AWS_394:any zone will do, and the subnet stays where it is when AWS adds one (see ignore_changes)
  state = "available"
  # Zones without Fargate: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html
  exclude_zone_ids = ["use1-az3", "usw1-az2", "apne1-az3", "cac1-az3"]

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "this" {
  count = local.makes_network ? 1 : 0

  # checkov:skip=CKV2_AWS_11:flow logs are charged per GB; the server counts its connections, and nothing else is in this network
  cidr_block = "10.0.0.0/24"

  tags = { Name = local.full_name }
}

# What is not named below must not be reachable through a group that AWS makes.
resource "aws_default_security_group" "this" {
  count = local.makes_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id
}

resource "aws_internet_gateway" "this" {
  count = local.makes_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  tags = { Name = local.full_name }
}

resource "aws_subnet" "this" {
  count = local.makes_network ? 1 : 0

  vpc_id            = aws_vpc.this[0].id
  cidr_block        = "10.0.0.0/26"
  availability_zone = data.aws_availability_zones.fargate[0].names[0]

  tags = { Name = local.full_name }

  lifecycle {
    # A zone that AWS adds must not move the server.
    ignore_changes = [availability_zone]
  }
}

resource "aws_route_table" "this" {
  count = local.makes_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this[0].id
  }

  tags = { Name = local.full_name }
}

resource "aws_route_table_association" "this" {
  count = local.makes_network ? 1 : 0

  subnet_id      = aws_subnet.this[0].id
  route_table_id = aws_route_table.this[0].id
}

# ---------------------------------------------------------------------------------------------------- security groups

resource "aws_security_group" "load_balancer" {
  name        = "${local.full_name}-load-balancer"
  description = "Clients reach the rendezvous of ${var.name}."
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id = aws_security_group.load_balancer.id
  description       = "Workers of Lambda come from anywhere; the server lets signed names in and no others."
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = local.port
  to_port           = local.port
}

resource "aws_vpc_security_group_egress_rule" "to_task" {
  for_each = { clients = local.port, health = local.health_port }

  security_group_id            = aws_security_group.load_balancer.id
  description                  = "To the task: ${each.key}."
  referenced_security_group_id = aws_security_group.task.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_security_group" "task" {
  name        = "${local.full_name}-task"
  description = "The load balancer reaches the rendezvous of ${var.name}, nobody else."
  vpc_id      = local.vpc_id
}

# By the load balancer's group, which also holds while it keeps the clients' addresses:
# https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-security-groups.html
resource "aws_vpc_security_group_ingress_rule" "from_load_balancer" {
  for_each = { clients = local.port, health = local.health_port }

  security_group_id            = aws_security_group.task.id
  description                  = "From the load balancer: ${each.key}."
  referenced_security_group_id = aws_security_group.load_balancer.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_egress_rule" "aws" {
  security_group_id = aws_security_group.task.id
  description       = "ECS pulls the image, reads the key and writes logs."
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# ------------------------------------------------------------------------------------------------------ load balancer

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91:a network load balancer logs TLS connections only, and this one has none
  # checkov:skip=CKV_AWS_150:it holds nothing, and `make destroy` must be able to delete it
  # checkov:skip=CKV_AWS_152:there is one task in one zone
  name               = local.full_name
  load_balancer_type = "network"
  internal           = false
  subnets            = [local.subnet_id]
  security_groups    = [aws_security_group.load_balancer.id]
}

resource "aws_lb_target_group" "this" {
  name        = local.full_name
  vpc_id      = local.vpc_id
  target_type = "ip"
  protocol    = "TCP"
  port        = local.port

  # Ranks are given each other's address as the server sees it: without this, all would have the load balancer's.
  preserve_client_ip = true
  # Of a task that is replaced: as long as it drains.
  deregistration_delay = 60

  # On a port of its own: a check of the clients' port would look like a client.
  health_check {
    protocol            = "HTTP"
    port                = tostring(local.health_port)
    path                = "/readyz"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "this" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "TCP"
  port              = local.port

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_route53_record" "this" {
  count = var.record == null ? 0 : 1

  zone_id = var.record.zone_id
  name    = var.record.name
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}

resource "aws_cloudwatch_metric_alarm" "down" {
  alarm_name          = "${local.full_name}-down"
  alarm_description   = "No rendezvous has answered for three minutes: ranks cannot meet. Its log group is /ecs/${local.full_name}."
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this.arn_suffix }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_actions
}
